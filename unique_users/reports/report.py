"""What the scripts print on stdout: lines for people, or JSON lines. Pure."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, Self

import orjson

from unique_users.aggregation.completeness import Why, fields, words
from unique_users.aggregation.counts import Count, Estimate, users_in
from unique_users.event_time.buckets import MINUTE, Bucket, Calendar, iso_time
from unique_users.messages.frame_counts import FrameCounts

Format = Literal["text", "json"]


class BucketerReport(NamedTuple):
    """What the bucketer reports: what this process has committed, and what is left to do."""

    at: int  # wall time in epoch seconds
    counts: FrameCounts  # since the start
    new: FrameCounts  # since the last report
    seconds: float  # since the last report
    lag: int | None  # frames; None if unknown
    partitions: int  # of feed, assigned to it; with none it has nothing to do: other members of its group have them all
    missing: tuple[str, ...] = ()  # topics that are gone

    @property
    def frames_per_second(self) -> int:
        """The rate since the last report."""
        return round(self.new.read / self.seconds) if self.seconds > 0 else 0

    def line(self, form: Format) -> str:
        """As one line."""
        if form == "json":
            fields = {
                "report": iso_time(self.at),
                "frames_per_second": self.frames_per_second,
                "frames": _fields(self.counts),
                "new": _fields(self.new),
                "lag": self.lag,
                "partitions": self.partitions,
                "broker_answers": self.lag is not None or bool(self.missing),
                "missing": list(self.missing),
            }
            return orjson.dumps(fields).decode()
        rate = f", {self.frames_per_second:,} frames/s" if self.frames_per_second else ""
        return f"{self.counts}, {_lag(self.lag, self.missing)}{rate}" + ("" if self.partitions else ", no partition")


def _fields(counts: FrameCounts) -> dict[str, Any]:
    return {"read": counts.read, "accepted": counts.accepted, "rejected": dict(sorted(counts.rejected.items()))}


class BucketCount(NamedTuple):
    """The count of one bucket, and how much of it is new since the last report."""

    start: int
    total: Count
    new: int
    interval: str = MINUTE.name
    why: tuple[Why, ...] = ()  # why it may be wrong; empty for a whole one

    @property
    def unique_users(self) -> int:
        """The number without its bounds."""
        return users_in(self.total)

    def line(self, form: Format, calendar: Calendar | None = None) -> str:
        """As one line of a report."""
        start = (calendar or Calendar()).text(Bucket(self.interval, self.start))
        if form == "json":
            said = {
                "interval": self.interval,
                "start": start,
                **users_fields(self.total),
                "new": self.new,
                **fields(self.why),
            }
            return orjson.dumps(said).decode()
        bounds = f" ({self.total.lower:,} to {self.total.upper:,})" if isinstance(self.total, Estimate) else ""
        return f"{start}  {self.interval}  {self.unique_users:,} unique users{bounds}  +{self.new:,}{words(self.why)}"


def users_fields(count: Count) -> dict[str, int]:
    """A count as JSON fields: `unique_users`, plus `lower` and `upper` for an estimate."""
    return count._asdict() if isinstance(count, Estimate) else {"unique_users": count}


class Summary(NamedTuple):
    """The end of every report. `lag` is None if unknown."""

    at: int  # wall time in epoch seconds
    messages_read: int  # since the last report
    buckets_changed: int
    lag: int | None
    unreadable: int = 0  # messages since the last report that this program did not write
    partitions: tuple[int, ...] = (0,)  # of `bucketed`, that the counts cover
    of: int | None = 1  # how many there are; None while no partition was opened
    feed_lag: int | None = None  # frames that no bucketer has committed; None if unknown
    feed_behind_seconds: float | None = None  # of the newest of these; None if unknown
    frames: FrameCounts | None = None  # everything read by bucketers and counters; accepted means counted
    missing: tuple[str, ...] = ()  # topics that are gone

    @classmethod
    def read(cls, fields: dict[str, Any]) -> Self:
        """Parse what `lines` wrote as JSON."""
        at = int(datetime.fromisoformat(fields["report"]).timestamp())
        found = {name: fields[name] for name in cls._fields if name not in {"at", "frames", "partitions", "missing"}}
        frames = fields["frames"]
        totals = frames and FrameCounts(frames["read"], frames["counted"], Counter(frames["rejected"]))
        partitions, missing = tuple(fields["partitions"]), tuple(fields["missing"])
        return cls(at=at, partitions=partitions, frames=totals, missing=missing, **found)

    def lines(self, form: Format) -> list[str]:
        """As lines of a report."""
        at = iso_time(self.at)
        if form == "json":
            fields = {
                "report": at,
                "messages_read": self.messages_read,
                "buckets_changed": self.buckets_changed,
                "lag": self.lag,
                "broker_answers": self.lag is not None or bool(self.missing),
                "missing": list(self.missing),
                "unreadable": self.unreadable,
                "partitions": list(self.partitions),
                "of": self.of,
                "feed_lag": self.feed_lag,
                "feed_behind_seconds": self.feed_behind_seconds,
                "frames": self.frames
                and {
                    "read": self.frames.read,
                    "counted": self.frames.accepted,
                    "rejected": dict(sorted(self.frames.rejected.items())),
                },
            }
            return [orjson.dumps(fields).decode()]
        text = f"{at}  report  {self.messages_read:,} messages read, {self.buckets_changed:,} buckets changed, "
        text += _lag(self.lag, self.missing)
        text += f", {self._feed_lag()}" if self.feed_lag else ""
        text += f", {self.unreadable:,} unreadable messages skipped" if self.unreadable else ""
        text += f", {self._share()}" if len(self.partitions) != self.of else ""
        if self.frames is None or not self.frames.read:
            return [text]
        return [text, f"{at}  frames  {self.frames.sum_text('counted')}"]

    def _feed_lag(self) -> str:
        text = f"{self.feed_lag:,} frames wait for a bucketer"
        return text if self.feed_behind_seconds is None else f"{text}, {self.feed_behind_seconds:,.0f} s behind"

    def _share(self) -> str:
        if not self.partitions:
            return "no partition"
        numbers = " ".join(map(str, self.partitions))
        return f"partition{'s' if len(self.partitions) > 1 else ''} {numbers} of {self.of}"


def _lag(lag: int | None, missing: Sequence[str]) -> str:
    known = [] if lag is None else [f"lag {lag:,}"]
    gone = [f"no topic {name!r}" for name in missing]
    return ", ".join([*known, *gone]) or "no answer from the broker"
