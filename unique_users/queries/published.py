"""The published counts as they change, from the topic `counts` alone: no database, no consumer group, bounded memory.

A count is published after its frame was read, so no record of a bucket is older than its start minus what a frame and a
producer's clock may be ahead. Whoever reads from there to the end has every record of the bucket, and its marks. So:

1. the tail of the topic gives the newest numbers at once, which may still lack something;
2. reading from a day before them makes the *window* complete: the newest buckets of each interval;
3. from then on the window follows the topic. An older range is read on demand, from its own start to the end.

Longer than other modules: these three steps move the same positions and share one limit of memory.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from unique_users.aggregation.completeness import RECORD_AHEAD_SECONDS
from unique_users.clients.protocols import Batch, Consumer
from unique_users.event_time.buckets import INTERVALS, LONGEST_SECONDS, Bucket
from unique_users.messages.counts import GAPS, REMOVED
from unique_users.messages.generations import Generations
from unique_users.messages.merged_counts import PublishedBucket, ReadCounts
from unique_users.queries.whole_topic import WholeTopic

DAY = 86_400
WINDOW_SECONDS = 26 * 3_600  # of event time, held from the start on: a day, and what belongs beside it
# The most event time that the window grows to when older buckets are asked for.
SPANS = {
    "minute": WINDOW_SECONDS,
    "5 minutes": 8 * DAY,
    "hour": 62 * DAY,
    "day": 800 * DAY,
    "week": 10 * 366 * DAY,
    "month": 50 * 366 * DAY,
    "year": 200 * 366 * DAY,
}
PARTS_MAX = 24_000  # counts of a bucket and partition in the window of an interval, 0.4 kB each; older ones go
RANGE_BUCKETS_MAX = 20_000  # in one range: two weeks of minutes
RANGES_WAITING_MAX = 8
KEPT_RANGES, KEPT_SECONDS = 4, 60.0
TAIL_SECONDS, TAIL_RECORDS = 600, 1_000  # of the topic's end: what was published lately, at most so much of a partition
SLICE_SECONDS = 0.05  # of reading a range, between two looks at what is new

Counts = Mapping[Bucket, PublishedBucket]


class RangeError(ValueError):
    """A range that is not answered: too long, or too many others wait."""


class BucketRange(NamedTuple):
    """The buckets of an interval that start from `start` up to but not including `end`."""

    interval: str
    start: int
    end: int

    def holds(self, bucket: Bucket) -> bool:
        """Whether a bucket is in it."""
        return bucket.interval == self.interval and self.start <= bucket.start < self.end


class _Window(NamedTuple):
    """The newest buckets of an interval; none is missing that starts from `since` on."""

    counts: ReadCounts
    since: int


class _Reading(NamedTuple):
    """A range that is being read, and who waits for it."""

    range: BucketRange
    counts: ReadCounts
    ends: Mapping[int, int]
    done: Callable[[Counts], None]
    grows: bool  # the window begins there from then on


class PublishedCounts:
    """The counts of the topic. For one thread, which calls `step` over and over.

    Every method may raise BrokerAwayError or BrokerError; after that, make a new one.
    """

    def __init__(
        self,
        new_reader: Callable[[], Consumer],
        intervals: Sequence[str],
        future_seconds_max: int,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._new_reader = new_reader
        self._ahead = future_seconds_max + RECORD_AHEAD_SECONDS
        self._wall_clock = wall_clock
        self._generations = Generations()
        self._intervals = tuple(sorted(intervals, key=INTERVALS.index))
        self._reader = self._whole_topic()
        self._range_reader: WholeTopic | None = None
        self._waiting: deque[tuple[BucketRange, Callable[[Counts], None]]] = deque()
        self._reading: _Reading | None = None
        self._kept: OrderedDict[BucketRange, tuple[float, Counts]] = OrderedDict()
        try:
            self._ends = self._start_at_tail()
        except BaseException:
            self._reader.close()
            raise
        self._coming: dict[str, _Window] = {}  # the window that becomes complete
        self._window = {name: _Window(self._new_counts(), 0) for name in self._intervals}
        self.complete = False

    def step(self, timeout_seconds: float) -> set[Bucket]:
        """Read on for a moment. Returns the buckets of the window that changed; they may be gone from it."""
        batches = self._reader.poll(0 if self._waiting or self._reading else timeout_seconds)
        into = self._coming or self._window
        for batch in batches:
            _take(batch, {name: window.counts for name, window in into.items()})
            _make_room(into)
        changed: set[Bucket] = set()
        if not self.complete and self._reader.is_at(self._ends):
            changed = self._next_stage()
        if self.complete:
            self._read_ranges()
        for window in self._window.values():
            changed |= window.counts.take_changed()
        return changed

    def newest(self, interval: str) -> int | None:
        """The start of the newest bucket, or None if there is none."""
        return max((bucket.start for bucket in self._window[interval].counts.buckets()), default=None)

    def merged(self, buckets: Iterable[Bucket]) -> Counts:
        """What the window holds of these buckets."""
        by_interval: dict[str, list[Bucket]] = {}
        for bucket in buckets:
            by_interval.setdefault(bucket.interval, []).append(bucket)
        found: dict[Bucket, PublishedBucket] = {}
        for name, asked in by_interval.items():
            found |= self._window[name].counts.merged(asked)
        return found

    def held(self, asked: BucketRange) -> Counts | None:
        """A range from the window; None if it may lack something: then `read` it."""
        window = self._window[asked.interval]
        if not self.complete or asked.start < window.since:
            return None
        return window.counts.merged(bucket for bucket in window.counts.buckets() if asked.holds(bucket))

    def since(self, interval: str) -> int:
        """The window lacks no bucket that starts from here on."""
        return self._window[interval].since

    def provisional(self, asked: BucketRange) -> Counts:
        """What is known of a range so far."""
        counts = self._window[asked.interval].counts
        return counts.merged(bucket for bucket in counts.buckets() if asked.holds(bucket))

    def read(self, asked: BucketRange, done: Callable[[Counts], None]) -> None:
        """Have a range read; a later `step` calls `done` with it. Raises RangeError."""
        if (asked.end - asked.start) * 24 // (LONGEST_SECONDS[asked.interval] * 23) > RANGE_BUCKETS_MAX:
            raise RangeError(f"at most {RANGE_BUCKETS_MAX:,} buckets in one answer: ask for a shorter range")
        if len(self._waiting) >= RANGES_WAITING_MAX:
            raise RangeError("too many ranges are being read: ask again in a few seconds")
        self._waiting.append((asked, done))

    def close(self) -> None:
        """Close the connections."""
        self._reader.close()
        if self._range_reader is not None:
            self._range_reader.close()

    def _whole_topic(self) -> WholeTopic:
        reader = self._new_reader()
        try:
            return WholeTopic(reader)
        except BaseException:
            reader.close()
            raise

    def _new_counts(self, since: int = 0) -> ReadCounts:
        return ReadCounts(self._generations, lambda bucket: bucket.start >= since)

    def _start_at_tail(self) -> Mapping[int, int]:
        """Start near the end of the topic. Returns where the end is now."""
        bounds = self._reader.watermark_offsets()
        offsets = self._reader.offsets_at(int((self._wall_clock() - TAIL_SECONDS) * 1000))
        lately = any(offsets.get(partition, end) < end for partition, (_, end) in bounds.items())
        self._reader.start(
            {
                partition: max(first, end - TAIL_RECORDS, offsets.get(partition, 0) if lately else 0)
                for partition, (first, end) in bounds.items()
            }
        )
        return {partition: end for partition, (_, end) in bounds.items()}

    def _next_stage(self) -> set[Bucket]:
        """The tail is read: read the window. Or the window is read: it takes the place of the tail."""
        if self._coming:
            self._window, self._coming, self.complete = self._coming, {}, True
            return {bucket for window in self._window.values() for bucket in window.counts.buckets()}
        newest = [at for name in self._intervals if (at := self.newest(name)) is not None]
        since = max(newest) - WINDOW_SECONDS if newest else 0
        self._coming = {name: _Window(self._new_counts(since), since) for name in self._intervals}
        self._ends = self._started(self._reader, since)
        return set()

    def _started(self, reader: WholeTopic, since: int) -> Mapping[int, int]:
        """Have a reader start where the records of buckets from `since` on begin. Returns where the end is now."""
        ends = {partition: end for partition, (_, end) in reader.watermark_offsets().items()}
        reader.start(reader.offsets_at(max(0, since - self._ahead) * 1000))
        return ends

    def _read_ranges(self) -> None:
        if self._reading is None and self._waiting:
            asked, done = self._waiting.popleft()
            now = time.monotonic()
            if asked in self._kept and now - self._kept[asked][0] < KEPT_SECONDS:
                done(self._with_window(asked, self._kept[asked][1]))
                return
            self._range_reader = self._range_reader or self._whole_topic()
            ends = self._started(self._range_reader, asked.start)
            newest = self.newest(asked.interval) or 0
            grows = asked.end > newest and asked.start >= newest - SPANS[asked.interval]
            counts = self._new_counts(asked.start) if grows else ReadCounts(self._generations, asked.holds)
            self._reading = _Reading(asked, counts, ends, done, grows)
        if self._reading is not None and self._range_reader is not None:
            self._read_on(self._reading, self._range_reader)

    def _read_on(self, reading: _Reading, reader: WholeTopic) -> None:
        until = time.monotonic() + SLICE_SECONDS
        while True:
            for batch in reader.poll(SLICE_SECONDS):
                _take(batch, {reading.range.interval: reading.counts})
            # As far as the window has come, which therefore misses nothing that this one has.
            if reader.is_at({**reading.ends, **self._reader.positions(reading.ends)}):
                self._finish(reading)
                return
            if time.monotonic() >= until:
                return

    def _finish(self, reading: _Reading) -> None:
        self._reading = None
        asked = reading.range
        found = reading.counts.merged(bucket for bucket in reading.counts.buckets() if asked.holds(bucket))
        if reading.grows:
            self._window[asked.interval] = _Window(reading.counts, asked.start)
        else:
            self._kept[asked] = (time.monotonic(), found)
            while len(self._kept) > KEPT_RANGES:
                self._kept.popitem(last=False)
        reading.done(self._with_window(asked, found))

    def _with_window(self, asked: BucketRange, found: Counts) -> Counts:
        """A range with what has come since it was read."""
        window = self._window[asked.interval]
        return {**found, **self.provisional(asked._replace(start=max(asked.start, window.since)))}


def _make_room(windows: dict[str, _Window]) -> None:
    """Forget the oldest buckets of an interval that has too many, or more than it may span."""
    for name, (counts, since) in windows.items():
        starts = sorted(bucket.start for bucket in counts.buckets())
        if not starts:
            continue
        floor = max(since, starts[-1] - SPANS[name])
        if counts.parts > PARTS_MAX:
            kept = len(starts) * PARTS_MAX * 7 // counts.parts // 8  # a little more goes, so that it seldom has to
            floor = max(floor, starts[-max(1, kept)])
        for start in starts:
            if start >= floor:
                break
            counts.forget(Bucket(name, start))
        windows[name] = _Window(counts, floor)


def _take(batch: Batch, into: Mapping[str, ReadCounts]) -> None:
    """Give records to those who hold their interval, which the key begins with; gaps to all of them."""
    of_keys = {name.encode(): counts for name, counts in into.items()}
    gaps = {name.removesuffix(":").encode() for name in (GAPS, REMOVED)}
    for key, value in zip(batch.keys, batch.values, strict=True):
        name = (key or b"").partition(b":")[0]
        if counts := of_keys.get(name):
            counts.add(key, value)
        elif name in gaps:
            for each in into.values():
                each.add(key, value)
