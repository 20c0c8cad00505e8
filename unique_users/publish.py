"""The topic `counts`: what the counters publish, and how it is read.

Each record is one count of one bucket in one partition of `bucketed`. Counts only grow, so of two records with the
same key the larger count is the newer one; and a user stands in one partition, so partitions add up. Estimates come
with their sketches, which merge to what one sketch of all users says, with its narrower bounds.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from unique_users.buckets import INTERVALS, MINUTE, Bucket, Calendar, bucket_timestamp
from unique_users.clients import Consumer, Producer
from unique_users.estimates import Count, DamagedSketchError, Estimate, add_up, sketch_checksum, sketch_class, users_in

POLL_SECONDS = 0.5


class PublishedCount(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value of a record in `counts`, as JSON. `timestamp` is the bucket's start in epoch seconds.

    Those of estimates alone have the last four fields; bytes are in base64.
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

    @property
    def total(self) -> Count:
        """The count, with its bounds if it is an estimate."""
        if self.lower is None or self.upper is None:
            return self.unique_users
        return Estimate(self.unique_users, self.lower, self.upper)

    def is_newer(self, other: "PublishedCount") -> bool:
        """Whether this replaces one of the same bucket and partition that was read before it."""
        if (self.lower is None) != (other.lower is None):
            return True  # the interval is estimated from here on, or not any more
        return self.unique_users >= other.unique_users


def encode_count(
    bucket: Bucket, partition: int, count: Count, calendar: Calendar, sketch: bytes | None = None
) -> tuple[bytes, bytes]:
    """Key and value of a record in `counts`."""
    interval, start = bucket
    key = f"{interval}:{start}:{partition}".encode()
    users = count if isinstance(count, Estimate) else (count,)
    value = PublishedCount(interval, calendar.text(bucket), start, partition, *users)
    if sketch is not None:
        value = msgspec.structs.replace(value, sketch=sketch, checksum=sketch_checksum(sketch))
    return key, msgspec.json.encode(value)


def merged_buckets(values: Iterable[bytes | None]) -> dict[Bucket, Count]:
    """The unique users of each bucket from the values of the topic `counts` in any order.

    The maximum for each partition, put together over the partitions. Values that are no counts are passed over. Only
    where an interval was exact before it was estimated, or the other way round, does the order matter.
    """
    newest: dict[tuple[Bucket, int], PublishedCount] = {}
    decode = msgspec.json.Decoder(PublishedCount).decode
    for value in values:
        try:
            count = decode(value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if count.interval in INTERVALS and count.timestamp == bucket_timestamp(count.timestamp):
            key = (Bucket(count.interval, count.timestamp), count.partition)
            if key not in newest or count.is_newer(newest[key]):
                newest[key] = count
    parts: dict[Bucket, list[PublishedCount]] = {}
    for (bucket, _partition), count in newest.items():
        parts.setdefault(bucket, []).append(count)
    return {bucket: _put_together(parts[bucket]) for bucket in sorted(parts)}


def _put_together(parts: Sequence[PublishedCount]) -> Count:
    """The count over all partitions: of the merged sketches where there are some, otherwise the sum."""
    if len(parts) > 1 and all(part.sketch is not None for part in parts):
        try:
            merged = sketch_class()()
            for part in parts:
                merged.merge(sketch_class().from_bytes(part.sketch or b"", part.checksum or b""))
            return merged.estimate()
        except (DamagedSketchError, ImportError):
            pass
    return add_up(part.total for part in parts)


def merged_counts(values: Iterable[bytes | None]) -> dict[int, int]:
    """The unique users of each minute, by its start; see merged_buckets."""
    merged = merged_buckets(values)
    return {bucket.start: users_in(count) for bucket, count in merged.items() if bucket.interval == MINUTE.name}


def read_counts(consumer: Consumer, ends: Mapping[int, int]) -> dict[Bucket, Count]:
    """The merged counts that the topic `counts` holds up to the offsets `ends` of its partitions.

    `consumer` reads that topic alone in its group. Raises BrokerAwayError.
    """
    values: list[bytes | None] = []
    begun: set[int] = set()
    while any(p not in begun or consumer.position(p) < end for p, end in ends.items()):
        polled = consumer.poll(POLL_SECONDS)
        for partition, (first, _) in consumer.bounds(polled.taken).items():
            consumer.start(partition, first)
            begun.add(partition)
        for batch in polled.batches:
            values += batch.values
    return merged_buckets(values)


class Publisher:
    """Sends counts to the topic `counts`. Publishing one twice is harmless."""

    def __init__(self, producer: Producer, topic: str, calendar: Calendar) -> None:
        self._producer = producer
        self._topic = topic
        self._calendar = calendar

    def publish(
        self,
        partition: int,
        counts: Mapping[Bucket, Count],
        sketches: Mapping[Bucket, bytes],
        timeout_seconds: float,
    ) -> bool:
        """Send these counts of one partition, estimates with their sketches; return whether they arrived.

        Raises DeliveryError.
        """
        # At once: what waits here while the process is frozen would come after newer counts of its successor.
        records = [
            encode_count(bucket, partition, count, self._calendar, sketches.get(bucket))
            for bucket, count in counts.items()
        ]
        self._producer.send_all(self._topic, [value for _, value in records], [key for key, _ in records])
        return self._producer.flush(timeout_seconds)

    def close(self) -> None:
        """Let go of the connection."""
        self._producer.close()
