"""What a real broker knows of topics and groups, asked by kafka-python whatever client is tested."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import NodeNotReadyError
from patience import LIMIT_SECONDS

from unique_users.clients.connect import get_admin
from unique_users.clients.protocols import TopicState
from unique_users.config.schema import Config
from unique_users.errors import BrokerAwayError

CONNECT_SECONDS = 10.0  # a client waits a second at most before it tries to connect again
POLL_SECONDS = 0.1


class Record(NamedTuple):
    """A record as it lies in a topic."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


def polled_records(polled: Mapping[TopicPartition, Sequence[Any]]) -> Iterator[Record]:
    """The records of a client's poll."""
    for consumed in polled.values():
        for r in consumed:
            yield Record(r.partition, r.offset, r.timestamp, r.key, r.value, dict(r.headers))


class PatientAdmin:
    """An admin that asks again while its client waits with a new connection, as after a restart of the broker.

    Nothing was sent then, so that no request is made twice.
    """

    def __init__(self, admin: Any) -> None:
        self._asked = admin

    def __getattr__(self, name: str) -> Any:
        known = getattr(self._asked, name)
        return partial(_once_connected, known) if callable(known) else known


def _once_connected(request: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            return request(*arguments, **named)
        except (NodeNotReadyError, BrokerAwayError) as error:
            unsent = isinstance(error, NodeNotReadyError) or isinstance(error.__context__, NodeNotReadyError)
            if not unsent or time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


class TopicsOnBroker:
    """Questions to a broker, and what an operator does to its topics."""

    def __init__(self, direct: Config) -> None:
        self.direct = direct
        self._admin: Any = None

    @property
    def admin(self) -> Any:
        """The client's own admin, made when first asked for."""
        if self._admin is None:
            self._admin = PatientAdmin(get_admin(self.direct))
        return PatientAdmin(self._admin._admin)

    def high_watermark_offsets(self, topic: str) -> dict[int, int]:
        """The end offset of each partition of a topic."""
        (described,) = self.admin.describe_topics([topic])
        asked = {TopicPartition(topic, part["partition_index"]): -1 for part in described["partitions"]}
        return {tp.partition: int(end.offset) for tp, end in self.admin.list_partition_offsets(asked).items()}

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """What a group has committed of each partition, 0 where nothing."""
        asked = [TopicPartition(topic, partition) for partition in self.high_watermark_offsets(topic)]
        found = self.admin.list_group_offsets({group: asked})[group]
        return {tp.partition: max(0, found[tp].offset) if tp in found else 0 for tp in asked}

    def written(self, topic: str) -> int:
        """How many records a topic was ever given, in all of its partitions."""
        return sum(self.high_watermark_offsets(topic).values())

    def grow(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions, so many in all."""
        self.admin.create_partitions({topic: partitions})

    def delete_records(self, topic: str, before: int, partition: int = 0) -> None:
        """Delete what stands before an offset, as the topic's retention does."""
        self.admin.delete_records({TopicPartition(topic, partition): before})

    def described(self, topic: str) -> TopicState | None:
        """The topic as it is now, None when it is gone."""
        assert self.admin
        state: TopicState | None = self._admin.describe(topic)
        return state

    def settings(self, topic: str) -> Mapping[str, str]:
        """The topic's settings."""
        assert self.admin
        settings: Mapping[str, str] = self._admin.settings(topic)
        return settings

    def lag(self, group: str, topic: str) -> int:
        assert self.admin
        return int(self._admin.lag(group, topic))

    def read(self, topic: str) -> list[Record]:
        """All records of a topic, one partition after the other."""
        return list(self.records(topic))

    def records(self, topic: str) -> Iterator[Record]:
        """All records of a topic, one partition after the other, a poll at a time."""
        for partition in sorted(self.high_watermark_offsets(topic)):
            yield from self.partition(topic, partition)

    def partition(self, topic: str, partition: int) -> Iterator[Record]:
        """The records of a partition up to where it ends now, a poll at a time."""
        end, where = self.high_watermark_offsets(topic)[partition], TopicPartition(topic, partition)
        consumer = KafkaConsumer(
            bootstrap_servers=self.direct.bootstrap_servers,
            group_id=None,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=1 << 24,
        )
        try:
            consumer.assign([where])
            consumer.seek_to_beginning(where)
            position, moved_at = -1, time.monotonic()
            while (now := consumer.position(where)) < end:
                if now != position:
                    position, moved_at = now, time.monotonic()
                assert time.monotonic() < moved_at + LIMIT_SECONDS, f"{topic}-{partition} stands at {now} of {end}"
                yield from polled_records(consumer.poll(timeout_ms=500))
        finally:
            consumer.close()
