"""Publishing to the topic `counts`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from unique_users.aggregation.completeness import Gap, Why
from unique_users.aggregation.counts import Count
from unique_users.clients.protocols import Producer
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.messages.counts import encode_count, encode_gaps, encode_removed, key_of
from unique_users.messages.dead_letters import DeadLetter


class Due(NamedTuple):
    """What is due to be published for a partition."""

    counts: Mapping[Bucket, Count]
    sketches: Mapping[Bucket, bytes] = {}  # of the estimated buckets
    why: Mapping[Bucket, Sequence[Why]] = {}  # of the buckets that are not whole
    withdrawn: Collection[Bucket] = ()  # whose earlier counts are to be deleted
    generation: str = ""
    gaps: tuple[Gap, ...] | None = None  # of the partition, if others need to know them
    at_end: Mapping[Bucket, int] = {}  # what buckets had when the stream's clock passed their ends
    removed: tuple[Gap, ...] | None = None  # what is going to leave the topic for its age, if that is not told yet

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to send."""
        return not self.counts and not self.withdrawn and self.gaps is None and self.removed is None


class Publisher:
    """Sends counts to the topic `counts`, and late records to `rejected`. Sending twice is harmless."""

    def __init__(self, producer: Producer, topic: str, calendar: Calendar, rejected: str) -> None:
        self._producer = producer
        self._topic = topic
        self._calendar = calendar
        self._rejected = rejected

    def publish(self, partition: int, due: Due, timeout_seconds: float) -> bool:
        """Send what is due for one partition, estimates with their sketches. Returns whether it arrived.

        The tombstone of a key comes before its new count. Raises DeliveryError, BrokerAwayError.
        """
        if due.gaps is not None:
            key, gaps = encode_gaps(partition, due.gaps, due.generation)
            self._producer.send(self._topic, gaps, key)
        if due.removed is not None:
            # To every partition: none shows a tombstone without this before it, however the others are read.
            key, removed = encode_removed(partition, due.removed, due.generation)
            for number in range(self._producer.partitions(self._topic)):
                self._producer.send(self._topic, removed, key, partition=number)
        for bucket in due.withdrawn:
            self._producer.send(self._topic, None, key_of(bucket, partition))
        # At once: records held back while the process is frozen would arrive after newer counts of its successor.
        records = [
            encode_count(
                bucket,
                partition,
                count,
                self._calendar,
                due.sketches.get(bucket),
                generation=due.generation,
                why=due.why.get(bucket, ()),
                at_end=due.at_end.get(bucket),
            )
            for bucket, count in due.counts.items()
        ]
        self._producer.send_all(self._topic, [value for _, value in records], [key for key, _ in records])
        return self._producer.flush(timeout_seconds)

    def reject(self, letters: Iterable[DeadLetter], timeout_seconds: float) -> bool:
        """Send dead letters. Returns whether they arrived. Raises DeliveryError."""
        for letter in letters:
            self._producer.send(self._rejected, letter.value, letter.key, letter.headers())
        return self._producer.flush(timeout_seconds)

    def close(self) -> None:
        """Close the connection."""
        self._producer.close()
