"""A reader of one topic without a consumer group, by kafka-python."""

from collections.abc import Mapping

from kafka import KafkaConsumer, TopicPartition

from unique_users.clients.kafka_python.errors import explained
from unique_users.clients.kafka_python.internals.closing import LetsGo
from unique_users.clients.kafka_python.internals.column_reading import columns, read_columns, runs
from unique_users.clients.kafka_python.settings import CONSUMER, settings_of
from unique_users.clients.protocols import REQUEST_SECONDS, Batch
from unique_users.config.schema import Config
from unique_users.errors import BrokerAwayError

# Topics that are read like this are small, and so is the process that reads them.
_READER = {**CONSUMER, "max_partition_fetch_bytes": 512 * 1024, "fetch_max_bytes": 2 * 1024 * 1024}
_OF_GROUPS = ("group_id", "group_instance_id", "partition_assignment_strategy")


class _Consumer(LetsGo, KafkaConsumer):  # type: ignore[misc]
    pass


class KafkaPythonTimedReader:
    """See protocols.TimedReader."""

    def __init__(self, config: Config, topic: str) -> None:
        self._config = config
        self._topic = topic
        settings = settings_of(config, _READER, KafkaConsumer.DEFAULT_CONFIG)
        settings = {name: value for name, value in settings.items() if name not in _OF_GROUPS}
        settings |= {"group_id": None, "enable_auto_commit": False}
        with explained(config):
            self._consumer = _Consumer(**settings)
            read_columns(self._consumer._fetcher, settings["max_poll_records"])  # noqa: SLF001

    def watermark_offsets(self) -> dict[int, tuple[int, int]]:
        asked = self._all()
        with explained(self._config):
            first = self._consumer.beginning_offsets(asked, timeout_ms=REQUEST_SECONDS * 1000)
            ends = self._consumer.end_offsets(asked, timeout_ms=REQUEST_SECONDS * 1000)
        return {place.partition: (first[place], ends[place]) for place in asked}

    def offsets_at(self, timestamp_ms: int) -> dict[int, int]:
        asked = self._all()
        with explained(self._config):
            ends = self._consumer.end_offsets(asked, timeout_ms=REQUEST_SECONDS * 1000)
            found = self._consumer.offsets_for_times(
                dict.fromkeys(asked, timestamp_ms), timeout_ms=REQUEST_SECONDS * 1000
            )
        return {place.partition: at.offset if (at := found.get(place)) else ends[place] for place in asked}

    def start(self, offsets: Mapping[int, int]) -> None:
        with explained(self._config):
            self._consumer.assign([TopicPartition(self._topic, partition) for partition in offsets])
            for partition, offset in offsets.items():
                self._consumer.seek(TopicPartition(self._topic, partition), offset)

    def poll(self, timeout_seconds: float) -> list[Batch]:
        try:
            with explained(self._config):
                polled = self._consumer.poll(timeout_ms=max(0, timeout_seconds) * 1000, max_records=1)
        except BrokerAwayError:
            return []
        return [
            Batch(place.partition, *run[:-1])  # nobody asks for headers here
            for place, records in polled.items()
            for run in runs([columns(record) for record in records])
        ]

    def position(self, partition: int) -> int:
        with explained(self._config):
            at = self._consumer.position(TopicPartition(self._topic, partition), timeout_ms=REQUEST_SECONDS * 1000)
        if at is None:
            raise BrokerAwayError(f"no answer about the position in {self._topic}-{partition}")
        return int(at)

    def close(self) -> None:
        self._consumer.close(autocommit=False)

    def _all(self) -> list[TopicPartition]:
        with explained(self._config):
            found = self._consumer.partitions_for_topic(self._topic)
        if not found:
            raise BrokerAwayError(f"the broker has no topic {self._topic!r}")
        return [TopicPartition(self._topic, partition) for partition in sorted(found)]
