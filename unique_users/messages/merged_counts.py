"""Reading the topic `counts`: one number for each bucket from the records of all partitions. Pure.

Counts of one generation only grow, so of two records with the same key the larger count is newer. A user is in one
partition only, so partitions add up. A tombstone takes a count back. Estimates come with their sketches; these merge
into what one sketch of all users would say, with its narrower bounds.

Longer than other modules: counts, gaps and generations say only together what a bucket holds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from unique_users.aggregation.completeness import Gap, Why, why_missing, with_gaps
from unique_users.aggregation.counts import Count, DamagedSketchError, Estimate, add_up, sketch_class, users_in
from unique_users.event_time.buckets import INTERVALS, MINUTE, Bucket, bucket_timestamp
from unique_users.messages.counts import GAPS, REMOVED, PublishedGaps, count_of, encode_removed
from unique_users.messages.generations import Generations, speaks_for

_INTERVALS = {name: name for name in INTERVALS}  # one string for each, however many records name it


class PublishedBucket(NamedTuple):
    """A bucket in `counts`: its unique users, and why they may be wrong; empty for a whole one.

    `at_end` is what it had when the stream's clock passed its end; None if not all partitions know, or not yet.
    """

    total: Count
    why: tuple[str, ...] = ()
    at_end: int | None = None


class FormerCount(NamedTuple):
    """What former states have published for a bucket in one partition."""

    total: Count
    may_be_too_high: bool


TIMESTAMP_MAX = 253_402_300_799  # the last second of the year 9999
_Number = Annotated[int, Meta(ge=0, le=2**53)]  # what every reader of JSON can hold


class _Part(msgspec.Struct, gc=False, omit_defaults=True):
    """What is kept of a PublishedCount: everything but its time as a string."""

    interval: str
    timestamp: Annotated[int, Meta(ge=0, le=TIMESTAMP_MAX)]
    partition: int
    unique_users: _Number
    lower: _Number | None = None
    upper: _Number | None = None
    sketch: bytes | None = None
    checksum: bytes | None = None
    generation: str = ""
    why: tuple[str, ...] = ()
    at_end: _Number | None = None

    @property
    def total(self) -> Count:
        return count_of(self.unique_users, self.lower, self.upper)

    def is_newer(self, other: "_Part") -> bool:
        """Whether this replaces an earlier record of the same bucket, partition and topic.

        If one is exact and the other estimated, the state that began later wins, then the later record: from there on
        the interval is estimated, or no longer is.
        """
        if (self.lower is None) != (other.lower is None):
            return self.generation >= other.generation
        return self.unique_users >= other.unique_users


_Parts = dict[int, list[tuple[_Part, _Part]]]  # by partition; for each generation its newest count and its last one


def every_bucket(_: Bucket) -> bool:
    """Whether to keep a bucket that is read: all of them."""
    return True


class ReadCounts:
    """The counts of a topic as they are read, by bucket, partition and generation.

    It grows with the buckets, not with the records: `wanted` says which ones to keep, all by default, and `forget`
    makes room. Several ones of a topic share its `generations`.
    """

    def __init__(self, generations: Generations | None = None, wanted: Callable[[Bucket], bool] = every_bucket) -> None:
        self._generations = generations or Generations()
        self._wanted = wanted
        self._counts: dict[Bucket, _Parts] = {}
        self._gaps: dict[bytes, PublishedGaps] = {}  # the last record of each key
        self._removed: dict[tuple[int, str], tuple[Gap, ...]] = {}  # by partition and generation; all that was told
        self._chosen: set[tuple[int, str]] | None = None  # the current partitions and generations; None: look again
        self._version = 0  # of the generations when they were chosen
        self._changed: set[Bucket] = set()
        self.parts = 0  # how many counts are held: what memory grows with
        self._all_changed = False
        self._decode = msgspec.json.Decoder(_Part).decode
        self._decode_gaps = msgspec.json.Decoder(PublishedGaps).decode

    def add(self, key: bytes | None, value: bytes | None) -> None:
        """Take a record; one that is not a count is skipped."""
        try:
            if value is None:
                self._delete(key)
            elif key is not None and key.startswith(GAPS.encode()):
                self._gaps[key] = self._decode_gaps(value)
                self._look_again()
            elif key is not None and key.startswith(REMOVED.encode()):
                self._note_removed(self._decode_gaps(value))
            else:
                self._count(self._decode(value))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return

    def buckets(self) -> Iterable[Bucket]:
        """Every bucket of which there is a record."""
        return self._counts.keys()

    def of_partition(self, partition: int) -> list[Bucket]:
        """Every bucket of which there is a record of a partition, of whatever generation."""
        return [bucket for bucket, found in self._counts.items() if partition in found]

    def take_changed(self) -> set[Bucket]:
        """The buckets whose merged count may have changed since this was asked last; deleted ones are among them."""
        self._current()
        changed = self._changed.union(self._counts) if self._all_changed else self._changed
        self._changed, self._all_changed = set(), False
        return changed

    def forget(self, bucket: Bucket) -> None:
        """Make room: drop what is held of a bucket. Its generations still count."""
        self.parts -= sum(map(len, self._counts.pop(bucket, {}).values()))
        self._changed.discard(bucket)

    def records_of(self, bucket: Bucket) -> list[bytes]:
        """What is held of a bucket, as values of records: added in order, they give the same again."""
        pairs = [pair for found in self._counts.get(bucket, {}).values() for pair in found]
        parts = [part for newest, last in pairs for part in ((newest,) if newest is last else (newest, last))]
        return [msgspec.json.encode(part) for part in parts]

    def notes(self) -> list[tuple[bytes, bytes]]:
        """What partitions told about themselves, as keys and values of records: added to another one, it knows it."""
        gaps = [(key, msgspec.json.encode(value)) for key, value in self._gaps.items()]
        removed = (encode_removed(partition, told, name) for (partition, name), told in self._removed.items())
        return [*gaps, *((key, value) for key, value in removed if value is not None)]

    def is_removed(self, bucket: Bucket, of: tuple[int, str]) -> bool:
        """Whether the count of a bucket by a partition and generation was said to leave the topic for its age."""
        told = (gap for by, gaps in self._removed.items() if speaks_for(by, of) for gap in gaps)
        return any(gap.interval == bucket.interval and gap.start <= bucket.start < gap.end for gap in told)

    def context(self) -> object:
        """What merged counts depend on besides their own records: while it is equal, so are they."""
        return self._current(), dict(self._gaps)

    def former(self, partition: int, generation: str) -> dict[Bucket, FormerCount]:
        """What other states have published for a partition, as far as it belongs together with a generation."""
        own = (partition, generation)
        chosen = self._generations.current([*self._of_gaps(), own]) - {own}
        told = [g for g in self._gaps.values() if g.partition == partition and (partition, g.generation) in chosen]
        former: dict[Bucket, FormerCount] = {}
        for bucket, found in self._counts.items():
            counts = [pair for pair in found.get(partition, ()) if (partition, pair[0].generation) in chosen]
            if counts:
                why = {reason for _, last in counts for reason in last.why}
                why.update(reason for gaps in told for reason in why_missing(gaps.known(), bucket))
                former[bucket] = FormerCount(_newest(counts).total, Why.LOG_CUT_BACK in why)
        return former

    def removed(self, partition: int, generation: str) -> tuple[Gap, ...]:
        """Which counts of a partition have left the topic for their age, whichever state of that log removed them."""
        chosen = self._generations.current([*self._of_gaps(), (partition, generation)])
        return with_gaps((), (gap for of in chosen if of[0] == partition for gap in self._removed.get(of, ())))

    def merged(self, buckets: Iterable[Bucket] | None = None) -> dict[Bucket, PublishedBucket]:
        """The counts of the current generation, combined over the partitions: of all buckets, or of these."""
        chosen = self._current()
        told = {g.partition: g for g in self._gaps.values() if (g.partition, g.generation) in chosen}
        gaps: dict[int, tuple[Gap, ...]] = {partition: each.known() for partition, each in told.items()}
        for of in chosen & self._removed.keys():
            gaps[of[0]] = (*gaps.get(of[0], ()), *self._removed[of])
        found = {}
        for bucket in sorted(self._counts if buckets is None else buckets):
            parts = []
            for partition, of_partition in self._counts.get(bucket, {}).items():
                counts = [pair for pair in of_partition if (partition, pair[0].generation) in chosen]
                if counts:
                    parts.append(_part(counts, told.get(partition), bucket))
            if parts:
                found[bucket] = _put_together(bucket, parts, gaps)
        return found

    def _count(self, count: _Part) -> None:
        if count.interval not in _INTERVALS or count.timestamp != bucket_timestamp(count.timestamp):
            return
        count.interval = _INTERVALS[count.interval]
        count.generation = self._generations.one_name(count.generation)
        bucket = Bucket(count.interval, count.timestamp)
        if not self._wanted(bucket):
            return
        found = self._counts.setdefault(bucket, {}).setdefault(count.partition, [])
        self._changed.add(bucket)
        for place, (newest, _) in enumerate(found):
            if newest.generation == count.generation:
                found[place] = (count if count.is_newer(newest) else newest, count)
                return
        found.append((count, count))
        found.sort(key=lambda pair: pair[0].generation)
        self._generations.note(count.partition, count.generation)
        self.parts += 1

    def _note_removed(self, told: PublishedGaps) -> None:
        """Take what has left the topic. It lies in each of its partitions: one may hold an older record."""
        of = told.partition, told.generation
        known = self._removed.get(of, ())
        self._removed[of] = with_gaps(known, (gap for gap in told.known() if gap.why == Why.COUNT_REMOVED))
        if self._removed[of] != known:
            self._look_again()

    def _delete(self, key: bytes | None) -> None:
        if self._gaps.pop(key or b"", None) is not None:
            self._look_again()
        bucket, partition = parsed_key(key)
        if partition in self._counts.get(bucket, ()):
            self._changed.add(bucket)
            self._remove(bucket, partition)

    def _remove(self, bucket: Bucket, partition: int) -> None:
        for newest, _ in self._counts[bucket].pop(partition):
            self._generations.drop(partition, newest.generation)
            self.parts -= 1
        if not self._counts[bucket]:
            del self._counts[bucket]

    def _look_again(self) -> None:
        self._chosen = None
        self._all_changed = True

    def _current(self) -> set[tuple[int, str]]:
        if self._chosen is None or self._version != self._generations.version:
            self._look_again()
            self._chosen = self._generations.current(self._of_gaps())
            self._version = self._generations.version
        return self._chosen

    def _of_gaps(self) -> list[tuple[int, str]]:
        return [*((gaps.partition, gaps.generation) for gaps in self._gaps.values()), *self._removed]


def _newest(counts: Sequence[tuple[_Part, _Part]]) -> _Part:
    """The newest count of a bucket and partition, of several generations in order."""
    newest = counts[0][0]
    for count, _ in counts[1:]:
        newest = count if count.is_newer(newest) else newest
    return newest


def _part(counts: Sequence[tuple[_Part, _Part]], told: PublishedGaps | None, bucket: Bucket) -> _Part:
    """What one partition counted in a bucket, from its generations, oldest first."""
    # The larger count may be from a state that was lost. Only its successor knows whether that is all.
    _, last = counts[-1]
    why = {*last.why, *_told_since(last, told, bucket)}
    return msgspec.structs.replace(_newest(counts), why=tuple(sorted(why)), at_end=last.at_end)


def _told_since(last: _Part, told: PublishedGaps | None, bucket: Bucket) -> tuple[str, ...]:
    """What the gaps of a partition say about the last count that it published.

    A state publishes its counts with their marks, except for buckets that were closed before it found that the log was
    cut back. What a former state published lacks what its successor missed. It does not matter here that the former
    state was lost: it had counted what it published.
    """
    if told is None or last.generation > told.generation:
        return ()
    former = last.generation < told.generation
    gaps = (gap for gap in told.known() if (gap.why != Why.STATE_LOST if former else gap.why == Why.LOG_CUT_BACK))
    return why_missing(gaps, bucket)


def parsed_key(key: bytes | None) -> tuple[Bucket, int]:
    """Parse what `key_of` wrote; any other key gives a bucket that no count has."""
    interval, _, rest = (key or b"").decode(errors="replace").partition(":")
    start, _, partition = rest.partition(":")
    if start.isdecimal() and partition.isdecimal():
        return Bucket(interval, int(start)), int(partition)
    return Bucket("", 0), 0


def merged_buckets(
    values: Iterable[bytes | None], keys: Iterable[bytes | None] | None = None
) -> dict[Bucket, PublishedBucket]:
    """The unique users of each bucket from the records of the topic `counts`, in order for each key.

    Takes the maximum for each partition of the current generation and combines the partitions. A bucket is whole if the
    last record of each partition says so. Values that are not counts are skipped; without `keys`, so are tombstones. If
    there are none, the order matters only for an interval that changed between exact and estimated.
    """
    read = ReadCounts()
    rows = ((None, value) for value in values if value is not None) if keys is None else zip(keys, values, strict=True)
    for key, value in rows:
        read.add(key, value)
    return read.merged()


def _put_together(bucket: Bucket, parts: Sequence[_Part], gaps: Mapping[int, Iterable[Gap]]) -> PublishedBucket:
    """The count over all partitions: from the merged sketches if there are any, otherwise the sum.

    Partitions without a count of this bucket may lack it because of their `gaps`.
    """
    why: set[str] = {reason for part in parts for reason in part.why}
    for partition in gaps.keys() - {part.partition for part in parts}:
        why.update(why_missing(gaps[partition], bucket))
    at_ends = [part.at_end for part in parts]
    at_end = None if None in at_ends else sum(filter(None, at_ends))
    return PublishedBucket(_merged_sketches(parts) or add_up(part.total for part in parts), tuple(sorted(why)), at_end)


def _merged_sketches(parts: Sequence[_Part]) -> Estimate | None:
    if len(parts) == 1 or any(part.sketch is None for part in parts):
        return None
    try:
        merged = sketch_class()()
        for part in parts:
            merged.merge(sketch_class().from_bytes(part.sketch or b"", part.checksum or b""))
        return merged.estimate()
    except (DamagedSketchError, ImportError):
        return None


def merged_counts(values: Iterable[bytes | None], keys: Iterable[bytes | None] | None = None) -> dict[int, int]:
    """The unique users of each minute, by its start; see merged_buckets."""
    merged = merged_buckets(values, keys)
    return {bucket.start: users_in(found.total) for bucket, found in merged.items() if bucket.interval == MINUTE.name}
