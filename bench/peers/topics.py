"""The topics of a run: made, written by an engine, and read back."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import NewTopic

POLL_MILLISECONDS = 500
EMPTY_POLLS_MAX = 4


def create(bootstrap_servers: str, *topics: str) -> None:
    """Make topics of one partition."""
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap_servers)) as admin:
        admin.create_topics([NewTopic(name=topic, num_partitions=1, replication_factor=1) for topic in topics])


def end(bootstrap_servers: str, topic: str) -> int:
    """The offset after the newest record."""
    partition = TopicPartition(topic, 0)
    with closing(KafkaConsumer(bootstrap_servers=bootstrap_servers)) as consumer:
        return int(consumer.end_offsets([partition])[partition])


def published(bootstrap_servers: str, topic: str) -> dict[int, int]:
    """The newest count of each minute that an engine has published: committed ones, if it has transactions."""
    return {int(key): int(value) for key, value in _records(bootstrap_servers, topic)}


def _records(bootstrap_servers: str, topic: str) -> Iterator[tuple[bytes, bytes]]:
    partition = TopicPartition(topic, 0)
    settings: dict[str, Any] = {"isolation_level": "read_committed", "enable_auto_commit": False}
    with closing(KafkaConsumer(bootstrap_servers=bootstrap_servers, **settings)) as consumer:
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        last = consumer.end_offsets([partition])[partition]
        empty = 0  # the end may be markers of transactions, which no poll returns
        while consumer.position(partition) < last and empty < EMPTY_POLLS_MAX:
            polled = consumer.poll(timeout_ms=POLL_MILLISECONDS)
            empty = 0 if polled else empty + 1
            for records in polled.values():
                for record in records:
                    yield record.key, record.value
