"""What the page shows: the buckets of the window as rows, which one is open, and the numbers to show large. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from unique_users.aggregation.counts import Estimate, users_in
from unique_users.dashboard.health import State
from unique_users.event_time.buckets import INTERVALS, Bucket, Calendar
from unique_users.messages.merged_counts import PublishedBucket
from unique_users.queries.published import BucketRange

AHEAD_SECONDS = 86_400  # between a stream's own time and the broker's: a larger difference means a replay
EARLIER_SECONDS = {"minute": 86_400, "5 minutes": 86_400, "hour": 86_400, "day": 7 * 86_400}


class Row(NamedTuple):
    """A bucket, as it goes to the page and into answers; times are epoch seconds, `end` is exclusive."""

    start: int
    end: int
    unique_users: int
    at_end: int | None
    lower: int | None
    upper: int | None
    why: tuple[str, ...]


class Figures(NamedTuple):
    """The numbers to show large. A bucket without users is one with 0; None is one that is not known."""

    open: Row | None
    closed: Row | None  # the one before it
    before: Row | None
    earlier: Row | None  # the same time a day earlier, for days a week earlier


def row(bucket: Bucket, found: PublishedBucket, calendar: Calendar) -> Row:
    """The row of a bucket."""
    total = found.total
    lower, upper = (total.lower, total.upper) if isinstance(total, Estimate) else (None, None)
    return Row(bucket.start, calendar.end(bucket), users_in(total), found.at_end, lower, upper, found.why)


class Board:
    """The rows of the window, by interval and start."""

    def __init__(self, intervals: Sequence[str], calendar: Calendar) -> None:
        self.intervals = tuple(sorted(intervals, key=INTERVALS.index))
        self.calendar = calendar
        self.complete = False
        self.state = State()
        self._rows: dict[str, dict[int, Row]] = {name: {} for name in self.intervals}
        self._since = dict.fromkeys(self.intervals, 0)

    def update(self, changed: Iterable[Bucket], found: Mapping[Bucket, PublishedBucket]) -> dict[str, list[Row | int]]:
        """Take in what changed. Returns by interval the new rows, and the starts of those that are gone."""
        told: dict[str, list[Row | int]] = {}
        for bucket in sorted(changed):
            rows = self._rows[bucket.interval]
            if (now := found.get(bucket)) is not None:
                new = row(bucket, now, self.calendar)
                if rows.get(bucket.start) != new:
                    rows[bucket.start] = new
                    told.setdefault(bucket.interval, []).append(new)
            elif rows.pop(bucket.start, None) is not None:
                told.setdefault(bucket.interval, []).append(bucket.start)
        return told

    def holds_from(self, interval: str, since: int) -> None:
        """Note that nothing that starts from `since` on is missing, and drop what is older."""
        if since != self._since[interval]:
            self._since[interval] = since
            self._rows[interval] = {start: row for start, row in self._rows[interval].items() if start >= since}

    def rows(self, asked: BucketRange) -> list[Row] | None:
        """The rows of a range, oldest first; None if some of it is not held."""
        if not self.complete or asked.start < self._since[asked.interval]:
            return None
        return self.known(asked)

    def known(self, asked: BucketRange) -> list[Row]:
        """The rows of a range as far as they are held."""
        rows = self._rows[asked.interval]
        return [rows[start] for start in sorted(rows) if asked.start <= start < asked.end]

    def last(self, interval: str, seconds: int) -> BucketRange:
        """The range of that length which ends with the open bucket; it begins with a bucket."""
        opened = self.open_start(interval)
        if opened is None:
            return BucketRange(interval, 0, 0)
        end = self.calendar.end(Bucket(interval, opened))
        return BucketRange(interval, self.calendar.start(interval, max(0, end - seconds)), end)

    def open_start(self, interval: str) -> int | None:
        """The start of the bucket that the stream is in; None before the first one.

        That is the newest one, unless it is ahead of both the stream's clock and the broker's: one wrong time is not
        the present. In a replay of another day the broker's clock says nothing.
        """
        rows = self._rows[self.intervals[0]]
        if not rows:
            return None
        starts = sorted(rows)
        at = bisect_right(starts, edge) if (edge := self._edge()) is not None else len(starts)
        return self.calendar.start(interval, starts[max(0, at - 1)])

    def _edge(self) -> int | None:
        clock, frame = self.state.clock, self.state.newest_frame
        if clock is None or frame is None:
            return clock if clock is not None else frame
        return max(clock, frame) if abs(frame - clock) < AHEAD_SECONDS else clock + 60

    def figures(self, interval: str) -> Figures:
        """The numbers of an interval to show large."""
        opened = self.open_start(interval)
        if opened is None:
            return Figures(None, None, None, None)
        closed = self._before(interval, opened)
        earlier = None
        if (seconds := EARLIER_SECONDS.get(interval)) is not None:
            # Days are found from their noon: the clock may have been changed in between.
            noon = 43_200 if interval == "day" else 0
            earlier = self._at(interval, self.calendar.start(interval, closed - seconds + noon))
        return Figures(
            self._at(interval, opened), self._at(interval, closed), self._at(interval, self._before(interval, closed)),
            earlier,
        )  # fmt: skip

    def _before(self, interval: str, start: int) -> int:
        return self.calendar.start(interval, max(0, start - 60))

    def _at(self, interval: str, start: int) -> Row | None:
        rows = self._rows[interval]
        if start in rows or not self.complete or start < self._since[interval] or start < min(rows, default=start):
            return rows.get(start)
        return Row(start, self.calendar.end(Bucket(interval, start)), 0, 0, None, None, ())
