"""The topic `counts`: what the counters publish, and how it is read.

Each record is one count of one bucket in one partition of `bucketed`. Counts only grow, so of two records with the
same key the larger count is the newer one; and a user stands in one partition, so partitions add up.
"""

from collections.abc import Iterable, Mapping

import msgspec

from unique_users.buckets import INTERVALS, MINUTE, Bucket, Calendar, bucket_timestamp
from unique_users.clients import Consumer, Producer

POLL_SECONDS = 0.5


class PublishedCount(msgspec.Struct, frozen=True):
    """The value of a record in `counts`, as JSON. `timestamp` is the bucket's start in epoch seconds."""

    interval: str
    start: str
    timestamp: int
    partition: int
    unique_users: int


def encode_count(bucket: Bucket, partition: int, unique_users: int, calendar: Calendar) -> tuple[bytes, bytes]:
    """Key and value of a record in `counts`."""
    interval, start = bucket
    key = f"{interval}:{start}:{partition}".encode()
    count = PublishedCount(interval, calendar.text(bucket), start, partition, unique_users)
    return key, msgspec.json.encode(count)


def merged_buckets(values: Iterable[bytes | None]) -> dict[Bucket, int]:
    """The unique users of each bucket from the values of the topic `counts` in any order.

    The maximum for each partition, summed over the partitions. Values that are no counts are passed over.
    """
    newest: dict[tuple[Bucket, int], int] = {}
    decode = msgspec.json.Decoder(PublishedCount).decode
    for value in values:
        try:
            count = decode(value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if count.interval in INTERVALS and count.timestamp == bucket_timestamp(count.timestamp):
            key = (Bucket(count.interval, count.timestamp), count.partition)
            newest[key] = max(newest.get(key, 0), count.unique_users)
    merged: dict[Bucket, int] = {}
    for (bucket, _partition), unique_users in newest.items():
        merged[bucket] = merged.get(bucket, 0) + unique_users
    return dict(sorted(merged.items()))


def merged_counts(values: Iterable[bytes | None]) -> dict[int, int]:
    """The unique users of each minute, by its start; see merged_buckets."""
    merged = merged_buckets(values)
    return {bucket.start: count for bucket, count in merged.items() if bucket.interval == MINUTE.name}


def read_counts(consumer: Consumer, ends: Mapping[int, int]) -> dict[Bucket, int]:
    """The merged counts that the topic `counts` holds up to the offsets `ends` of its partitions.

    `consumer` reads that topic alone in its group. Raises BrokerAwayError.
    """
    values: list[bytes | None] = []
    begun: set[int] = set()
    while any(p not in begun or consumer.position(p) < end for p, end in ends.items()):
        polled = consumer.poll(POLL_SECONDS)
        for partition in polled.taken:
            consumer.start(partition, consumer.bounds([partition])[partition][0])
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

    def publish(self, partition: int, counts: Mapping[Bucket, int], timeout_seconds: float) -> bool:
        """Send these counts of one partition; return whether they arrived. Raises DeliveryError."""
        # At once: what waits here while the process is frozen would come after newer counts of its successor.
        records = [encode_count(bucket, partition, count, self._calendar) for bucket, count in counts.items()]
        self._producer.send_all(self._topic, [value for _, value in records], [key for key, _ in records])
        return self._producer.flush(timeout_seconds)

    def close(self) -> None:
        """Let go of the connection."""
        self._producer.close()
