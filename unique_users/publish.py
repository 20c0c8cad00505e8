"""The topic `counts`: what the counters publish, and how it is read.

Each record is one count of one bucket in one partition of `bucketed`. Counts of one generation only grow, so of two
records with the same key the larger count is the newer one; and a user stands in one partition, so partitions add up.
A tombstone takes a count back. Estimates come with their sketches, which merge to what one sketch of all users says,
with its narrower bounds.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from unique_users.buckets import INTERVALS, MINUTE, Bucket, Calendar, bucket_timestamp
from unique_users.clients import Consumer, Producer
from unique_users.dead_letters import DeadLetter
from unique_users.estimates import Count, DamagedSketchError, Estimate, add_up, sketch_checksum, sketch_class, users_in
from unique_users.generations import current
from unique_users.marks import Why

POLL_SECONDS = 0.5


class PublishedCount(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value of a record in `counts`, as JSON. `timestamp` is the bucket's start in epoch seconds.

    Those of estimates alone have `lower` to `checksum`; bytes are in base64. Those of whole buckets have neither
    `whole` nor `why`, those of a state from before there were generations no `generation`.
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
        """Whether this replaces one of the same bucket, partition and topic that was read before it.

        Where one is exact and the other estimated, the state that began later decides, then the later record: the
        interval is estimated from there on, or not any more.
        """
        if (self.lower is None) != (other.lower is None):
            return self.generation >= other.generation
        return self.unique_users >= other.unique_users


class PublishedBucket(NamedTuple):
    """What `counts` says of a bucket: its unique users, and why these may be wrong; for a whole one, nothing."""

    total: Count
    why: tuple[str, ...] = ()


class Due(NamedTuple):
    """What is to be published of a partition."""

    counts: Mapping[Bucket, Count]
    sketches: Mapping[Bucket, bytes] = {}  # of those that are estimated
    why: Mapping[Bucket, Sequence[Why]] = {}  # of those that are not whole
    withdrawn: Collection[Bucket] = ()  # whose earlier counts are to be deleted
    generation: str = ""


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


class _Read:
    """The counts of a topic as they are read, by bucket, partition and generation: the newest, and the last one."""

    def __init__(self) -> None:
        self._counts: dict[tuple[Bucket, int], dict[str, tuple[PublishedCount, PublishedCount]]] = {}
        self._decode = msgspec.json.Decoder(PublishedCount).decode

    def add(self, key: bytes | None, value: bytes | None) -> None:
        """Take a record; one that is no count is passed over."""
        if value is None:
            self._counts.pop(_parsed(key), None)
            return
        try:
            count = self._decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if count.interval in INTERVALS and count.timestamp == bucket_timestamp(count.timestamp):
            found = self._counts.setdefault((Bucket(count.interval, count.timestamp), count.partition), {})
            newest, _ = found.get(count.generation, (count, count))
            found[count.generation] = (count if count.is_newer(newest) else newest, count)

    def merged(self) -> dict[Bucket, PublishedBucket]:
        """The counts of the current generation, put together over the partitions."""
        chosen = current((p, name) for (_, p), found in self._counts.items() for name in found)
        parts: dict[Bucket, list[PublishedCount]] = {}
        for (bucket, partition), found in self._counts.items():
            counts = [found[name] for name in sorted(found) if (partition, name) in chosen]
            if counts:
                newest = counts[0][0]
                for count, _ in counts[1:]:
                    newest = count if count.is_newer(newest) else newest
                # The larger count may be of a state that was lost. Whether that is all, only its successor knows.
                _, last = counts[-1]
                part = msgspec.structs.replace(newest, whole=last.whole, why=last.why)
                parts.setdefault(bucket, []).append(part)
        return {bucket: _put_together(parts[bucket]) for bucket in sorted(parts)}


def _parsed(key: bytes | None) -> tuple[Bucket, int]:
    """What `key_of` wrote; for another key, what no count has."""
    interval, _, rest = (key or b"").decode(errors="replace").partition(":")
    start, _, partition = rest.partition(":")
    if start.isdecimal() and partition.isdecimal():
        return Bucket(interval, int(start)), int(partition)
    return Bucket("", 0), 0


def merged_buckets(
    values: Iterable[bytes | None], keys: Iterable[bytes | None] | None = None
) -> dict[Bucket, PublishedBucket]:
    """The unique users of each bucket from the records of the topic `counts`, those of one key in their order.

    The maximum for each partition of the current generation, put together over the partitions; a bucket is whole if
    the last record of each partition says so. Values that are no counts are passed over. Without `keys`, so are
    tombstones; where there are none, the order matters only for an interval that was exact before it was estimated,
    or the other way round.
    """
    read = _Read()
    rows = ((None, value) for value in values if value is not None) if keys is None else zip(keys, values, strict=True)
    for key, value in rows:
        read.add(key, value)
    return read.merged()


def _put_together(parts: Sequence[PublishedCount]) -> PublishedBucket:
    """The count over all partitions: of the merged sketches where there are some, otherwise the sum."""
    why = tuple(sorted({reason for part in parts if not part.whole for reason in part.why}))
    return PublishedBucket(_merged_sketches(parts) or add_up(part.total for part in parts), why)


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


def read_counts(consumer: Consumer, ends: Mapping[int, int]) -> dict[Bucket, PublishedBucket]:
    """The merged counts that the topic `counts` holds up to the offsets `ends` of its partitions.

    `consumer` reads that topic alone in its group. Raises BrokerAwayError.
    """
    read = _Read()
    begun: set[int] = set()
    while any(p not in begun or consumer.position(p) < end for p, end in ends.items()):
        polled = consumer.poll(POLL_SECONDS)
        for partition in polled.taken:
            consumer.start(partition, consumer.bounds([partition])[partition][0])
            begun.add(partition)
        for batch in polled.batches:
            for key, value in zip(batch.keys, batch.values, strict=True):
                read.add(key, value)
    return read.merged()


class Publisher:
    """Sends counts to the topic `counts`, and what is too late to be counted to `rejected`. Twice is harmless."""

    def __init__(self, producer: Producer, topic: str, calendar: Calendar, rejected: str) -> None:
        self._producer = producer
        self._topic = topic
        self._calendar = calendar
        self._rejected = rejected

    def publish(self, partition: int, due: Due, timeout_seconds: float) -> bool:
        """Send what is due of one partition, estimates with their sketches; return whether it arrived.

        The tombstone of a key comes before its new count. Raises DeliveryError.
        """
        for bucket in due.withdrawn:
            self._producer.send(self._topic, None, key_of(bucket, partition))
        # At once: what waits here while the process is frozen would come after newer counts of its successor.
        records = [
            encode_count(
                bucket,
                partition,
                count,
                self._calendar,
                due.sketches.get(bucket),
                generation=due.generation,
                why=due.why.get(bucket, ()),
            )
            for bucket, count in due.counts.items()
        ]
        self._producer.send_all(self._topic, [value for _, value in records], [key for key, _ in records])
        return self._producer.flush(timeout_seconds)

    def reject(self, letters: Iterable[DeadLetter], timeout_seconds: float) -> bool:
        """Send dead letters; return whether they arrived. Raises DeliveryError."""
        for letter in letters:
            self._producer.send(self._rejected, letter.value, letter.key, letter.headers())
        return self._producer.flush(timeout_seconds)

    def close(self) -> None:
        """Let go of the connection."""
        self._producer.close()
