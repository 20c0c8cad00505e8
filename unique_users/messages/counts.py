"""The topic `counts`: what the counters publish. merged_counts.py reads it. Pure.

Each record is one count of one bucket in one partition of `bucketed`. A tombstone takes a count back. Estimates come
with their sketches.
"""

from collections.abc import Iterable, Sequence

import msgspec

from unique_users.aggregation.completeness import ALWAYS, Gap, Why
from unique_users.aggregation.counts import Count, Estimate, sketch_checksum
from unique_users.event_time.buckets import Bucket, Calendar


class PublishedCount(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value of a record in `counts`, as JSON. `timestamp` is the bucket's start in epoch seconds.

    Only estimates have `lower` to `checksum`; bytes are in base64. Whole buckets have neither `whole` nor `why`. Counts
    of a state older than generations have no `generation`. `at_end` is what an exact bucket had when the stream's clock
    passed its end: it comes with the first record after that, and is missing if that is not known.
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
    at_end: int | None = None

    @property
    def total(self) -> Count:
        """The count, with its bounds if it is an estimate."""
        return count_of(self.unique_users, self.lower, self.upper)


def count_of(unique_users: int, lower: int | None, upper: int | None) -> Count:
    """A count from the fields of a record: an estimate if it has bounds."""
    return unique_users if lower is None or upper is None else Estimate(unique_users, lower, upper)


class PublishedGap(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stretch of event time in `PublishedGaps`, without `end` if that is not known yet."""

    interval: str
    start: int
    why: str
    end: int | None = None


class PublishedGaps(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value of a record in `counts` with the key `gaps:PARTITION`: what the partition's counts may lack.

    Also of one with the key `removed:PARTITION`, which only grows: which counts have left the topic for their age.

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
    at_end: int | None = None,
) -> tuple[bytes, bytes]:
    """Key and value of a record in `counts`."""
    users = count if isinstance(count, Estimate) else (count,)
    value = PublishedCount(bucket.interval, calendar.text(bucket), bucket.start, partition, *users)
    value = msgspec.structs.replace(value, generation=generation, whole=not why, why=tuple(why), at_end=at_end)
    if sketch is not None:
        value = msgspec.structs.replace(value, sketch=sketch, checksum=sketch_checksum(sketch))
    return key_of(bucket, partition), msgspec.json.encode(value)


def encode_gaps(partition: int, gaps: Iterable[Gap], generation: str) -> tuple[bytes, bytes | None]:
    """Key and value of the record in `counts` with the gaps of a partition; a tombstone if it has none."""
    return _encoded(GAPS, partition, gaps, generation)


def encode_removed(partition: int, gaps: Iterable[Gap], generation: str) -> tuple[bytes, bytes | None]:
    """Key and value of the record in `counts` that says which counts of a partition have left it for their age.

    A record of its own: the next state of the partition writes its gaps before it knows these.
    """
    return _encoded(REMOVED, partition, gaps, generation)


def _encoded(name: str, partition: int, gaps: Iterable[Gap], generation: str) -> tuple[bytes, bytes | None]:
    told = tuple(PublishedGap(g.interval, g.start, g.why, g.end if g.end < ALWAYS else None) for g in gaps)
    value = msgspec.json.encode(PublishedGaps(partition, told, generation)) if told else None
    return f"{name}{partition}".encode(), value


GAPS, REMOVED = "gaps:", "removed:"  # what the keys of these records begin with
