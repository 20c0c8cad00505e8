"""The topic `counts`: what the counters publish, and how to read it. Pure.

Each record is one count of one bucket in one partition of `bucketed`. Counts of one generation only grow, so of two
records with the same key the larger count is newer. A user is in one partition only, so partitions add up. A tombstone
takes a count back. Estimates come with their sketches; these merge into what one sketch of all users would say, with
its narrower bounds.

Longer than other modules, because what is written and what readers make of it have to agree.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from unique_users.aggregation.completeness import ALWAYS, Gap, Why, why_missing
from unique_users.aggregation.counts import (
    Count,
    DamagedSketchError,
    Estimate,
    add_up,
    sketch_checksum,
    sketch_class,
    users_in,
)
from unique_users.event_time.buckets import INTERVALS, MINUTE, Bucket, Calendar, bucket_timestamp
from unique_users.messages.generations import current


class PublishedCount(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value of a record in `counts`, as JSON. `timestamp` is the bucket's start in epoch seconds.

    Only estimates have `lower` to `checksum`; bytes are in base64. Whole buckets have neither `whole` nor `why`. Counts
    of a state older than generations have no `generation`.
    """

    interval: str
    start: str
    timestamp: int
    partition: int
    unique_users: int
    lower: int | None = None
    upper: int | None = None
    sketch: bytes | None = None
    checksum: bytes | None = None
    generation: str = ""
    whole: bool = True
    why: tuple[str, ...] = ()

    @property
    def total(self) -> Count:
        """The count, with its bounds if it is an estimate."""
        if self.lower is None or self.upper is None:
            return self.unique_users
        return Estimate(self.unique_users, self.lower, self.upper)

    def is_newer(self, other: "PublishedCount") -> bool:
        """Whether this replaces an earlier record of the same bucket, partition and topic.

        If one is exact and the other estimated, the state that began later wins, then the later record: from there on
        the interval is estimated, or no longer is.
        """
        if (self.lower is None) != (other.lower is None):
            return self.generation >= other.generation
        return self.unique_users >= other.unique_users


class PublishedGap(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stretch of event time in `PublishedGaps`, without `end` if that is not known yet."""

    interval: str
    start: int
    why: str
    end: int | None = None


class PublishedGaps(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value of a record in `counts` with the key `gaps:PARTITION`: what the partition's counts may lack.

    It marks buckets that this partition has no count for but others do, those whose count is from a former state, and
    those that were closed before the log was found to be cut back.
    """

    partition: int
    gaps: tuple[PublishedGap, ...]
    generation: str = ""

    def known(self) -> tuple[Gap, ...]:
        """The gaps whose reason this version knows."""
        reasons = {*Why}
        return tuple(
            Gap(gap.interval, gap.start, ALWAYS if gap.end is None else gap.end, Why(gap.why))
            for gap in self.gaps
            if gap.why in reasons
        )


class FormerCount(NamedTuple):
    """What former states have published for a bucket in one partition."""

    total: Count
    may_be_too_high: bool


class PublishedBucket(NamedTuple):
    """A bucket in `counts`: its unique users, and why they may be wrong; empty for a whole one."""

    total: Count
    why: tuple[str, ...] = ()


def key_of(bucket: Bucket, partition: int) -> bytes:
    """The key of the records of a bucket and partition."""
    return f"{bucket.interval}:{bucket.start}:{partition}".encode()


def encode_count(
    bucket: Bucket,
    partition: int,
    count: Count,
    calendar: Calendar,
    sketch: bytes | None = None,
    *,
    generation: str = "",
    why: Sequence[Why] = (),
) -> tuple[bytes, bytes]:
    """Key and value of a record in `counts`."""
    users = count if isinstance(count, Estimate) else (count,)
    value = PublishedCount(bucket.interval, calendar.text(bucket), bucket.start, partition, *users)
    value = msgspec.structs.replace(value, generation=generation, whole=not why, why=tuple(why))
    if sketch is not None:
        value = msgspec.structs.replace(value, sketch=sketch, checksum=sketch_checksum(sketch))
    return key_of(bucket, partition), msgspec.json.encode(value)


def encode_gaps(partition: int, gaps: Iterable[Gap], generation: str) -> tuple[bytes, bytes | None]:
    """Key and value of the record in `counts` with the gaps of a partition; a tombstone if it has none."""
    told = tuple(PublishedGap(g.interval, g.start, g.why, g.end if g.end < ALWAYS else None) for g in gaps)
    value = msgspec.json.encode(PublishedGaps(partition, told, generation)) if told else None
    return f"{_GAPS}{partition}".encode(), value


_GAPS = "gaps:"


class ReadCounts:
    """The counts of a topic as they are read, by bucket, partition and generation: the newest, and the last one."""

    def __init__(self) -> None:
        self._counts: dict[tuple[Bucket, int], dict[str, tuple[PublishedCount, PublishedCount]]] = {}
        self._gaps: dict[bytes, PublishedGaps] = {}  # the last record of each key
        self._decode = msgspec.json.Decoder(PublishedCount).decode
        self._decode_gaps = msgspec.json.Decoder(PublishedGaps).decode

    def add(self, key: bytes | None, value: bytes | None) -> None:
        """Take a record; one that is not a count is skipped."""
        try:
            if value is None:
                self._gaps.pop(key or b"", None)
                self._counts.pop(_parsed(key), None)
                return
            if key is not None and key.startswith(_GAPS.encode()):
                self._gaps[key] = self._decode_gaps(value)
                return
            count = self._decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if count.interval in INTERVALS and count.timestamp == bucket_timestamp(count.timestamp):
            found = self._counts.setdefault((Bucket(count.interval, count.timestamp), count.partition), {})
            newest, _ = found.get(count.generation, (count, count))
            found[count.generation] = (count if count.is_newer(newest) else newest, count)

    def former(self, partition: int, generation: str) -> dict[Bucket, FormerCount]:
        """What other states have published for a partition, as far as it belongs together with a generation."""
        chosen = current([*self._generations(), (partition, generation)]) - {(partition, generation)}
        told = [g for g in self._gaps.values() if g.partition == partition and (partition, g.generation) in chosen]
        former: dict[Bucket, FormerCount] = {}
        for (bucket, of), found in self._counts.items():
            counts = [found[name] for name in sorted(found) if (of, name) in chosen]
            if of == partition and counts:
                why = {reason for _, last in counts for reason in last.why}
                why.update(reason for gaps in told for reason in why_missing(gaps.known(), bucket))
                former[bucket] = FormerCount(_newest(counts).total, Why.LOG_CUT_BACK in why)
        return former

    def merged(self) -> dict[Bucket, PublishedBucket]:
        """The counts of the current generation, combined over the partitions."""
        chosen = current(self._generations())
        told = {g.partition: g for g in self._gaps.values() if (g.partition, g.generation) in chosen}
        gaps = {partition: each.known() for partition, each in told.items()}
        parts: dict[Bucket, list[PublishedCount]] = {}
        for (bucket, partition), found in self._counts.items():
            counts = [found[name] for name in sorted(found) if (partition, name) in chosen]
            if counts:
                # The larger count may be from a state that was lost. Only its successor knows whether that is all.
                _, last = counts[-1]
                why = {*last.why, *_told_since(last, told.get(partition), bucket)}
                part = msgspec.structs.replace(_newest(counts), whole=not why, why=tuple(sorted(why)))
                parts.setdefault(bucket, []).append(part)
        return {bucket: _put_together(bucket, parts[bucket], gaps) for bucket in sorted(parts)}

    def _generations(self) -> list[tuple[int, str]]:
        """The partitions and generations of everything read."""
        of_gaps = [(gaps.partition, gaps.generation) for gaps in self._gaps.values()]
        return [*of_gaps, *((p, name) for (_, p), found in self._counts.items() for name in found)]


def _newest(counts: Sequence[tuple[PublishedCount, PublishedCount]]) -> PublishedCount:
    """The newest count of a bucket and partition, of several generations in order."""
    newest = counts[0][0]
    for count, _ in counts[1:]:
        newest = count if count.is_newer(newest) else newest
    return newest


def _told_since(last: PublishedCount, told: PublishedGaps | None, bucket: Bucket) -> tuple[str, ...]:
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


def _parsed(key: bytes | None) -> tuple[Bucket, int]:
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


def _put_together(
    bucket: Bucket, parts: Sequence[PublishedCount], gaps: Mapping[int, Iterable[Gap]]
) -> PublishedBucket:
    """The count over all partitions: from the merged sketches if there are any, otherwise the sum.

    Partitions without a count of this bucket may lack it because of their `gaps`.
    """
    why: set[str] = {reason for part in parts if not part.whole for reason in part.why}
    for partition in gaps.keys() - {part.partition for part in parts}:
        why.update(why_missing(gaps[partition], bucket))
    return PublishedBucket(_merged_sketches(parts) or add_up(part.total for part in parts), tuple(sorted(why)))


def _merged_sketches(parts: Sequence[PublishedCount]) -> Estimate | None:
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
