"""A reader of one topic without a consumer group, by librdkafka."""
# ruff: noqa: SLF001  # librdkafka's names of errors that no broker sent begin with an underscore

from collections.abc import Mapping, Sequence
from itertools import groupby

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from unique_users.clients.connect import damaged
from unique_users.clients.librdkafka.batches import PARTITION, batch_of
from unique_users.clients.librdkafka.errors import Refusal, explained, explained_error
from unique_users.clients.librdkafka.settings import CONSUMER, built, settings_of
from unique_users.clients.protocols import REQUEST_SECONDS, Batch
from unique_users.config.schema import Config
from unique_users.errors import BrokerAwayError

POLL_RECORDS_MAX = 5_000
FILL_SECONDS = 0.005  # how long a poll waits for more records after its first
# Topics that are read like this are small, and so is the process that reads them.
_READER = {**CONSUMER, "queued.max.messages.kbytes": 2 * 1024, "fetch.message.max.bytes": 512 * 1024}
_FIXED = {
    "group.id": "reader",  # a consumer must have one: nothing is requested or stored in its name
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
}
_OF_GROUPS = ("group.instance.id", "group.protocol", "group.remote.assignor", "partition.assignment.strategy")
_FIRST, _END = -2, -1  # special times in a request for offsets by time


class LibrdkafkaTimedReader:
    """See protocols.TimedReader."""

    def __init__(self, config: Config, topic: str) -> None:
        self._config = config
        self._topic = topic
        self._refusal = Refusal(config)
        settings = settings_of(config, _READER) | _FIXED | {"error_cb": self._refusal}
        settings = {name: value for name, value in settings.items() if name not in _OF_GROUPS}
        self._consumer: confluent_kafka.Consumer = built(config, confluent_kafka.Consumer, settings)
        self._refusal.connect(self._consumer)
        self._positions: dict[int, int] = {}

    def watermark_offsets(self) -> dict[int, tuple[int, int]]:
        first, ends = self._offsets(_FIRST), self._offsets(_END)
        return {partition: (first[partition], end) for partition, end in ends.items()}

    def offsets_at(self, timestamp_ms: int) -> dict[int, int]:
        ends, found = self._offsets(_END), self._offsets(max(0, timestamp_ms))
        return {partition: at if (at := found[partition]) >= 0 else end for partition, end in ends.items()}

    def _offsets(self, at: int) -> dict[int, int]:
        with explained(self._config):
            described = self._consumer.list_topics(self._topic, timeout=REQUEST_SECONDS).topics[self._topic]
            if described.error is not None:
                raise explained_error(self._config, described.error)
            asked = [TopicPartition(self._topic, partition, at) for partition in described.partitions]
            answers = self._consumer.offsets_for_times(asked, timeout=REQUEST_SECONDS)
            for answer in answers:
                if answer.error is not None:
                    raise KafkaException(answer.error)
        return {answer.partition: answer.offset for answer in answers}

    def start(self, offsets: Mapping[int, int]) -> None:
        self._positions = dict(offsets)
        with explained(self._config):
            self._consumer.assign([TopicPartition(self._topic, partition, at) for partition, at in offsets.items()])

    def poll(self, timeout_seconds: float) -> list[Batch]:
        with explained(self._config):
            # Asked for many, librdkafka would wait until it has them all: ask for one, then for what is there.
            messages = self._consumer.consume(1, max(0.0, timeout_seconds))
            if messages:
                messages += self._consumer.consume(POLL_RECORDS_MAX - 1, FILL_SECONDS)
        self._refusal.check()
        return self._batches([message for message in messages if not self._failed(message)])

    def _failed(self, message: Message) -> bool:
        """Whether this is an error instead of a record. Raises TopicError, and BrokerError if it does not pass."""
        error = message.error()
        if error is None:
            return False
        if error.code() == KafkaError._BAD_MSG:
            raise damaged(self._topic, message.partition(), message.offset())
        if error.code() not in {KafkaError._PARTITION_EOF, KafkaError.GROUP_AUTHORIZATION_FAILED}:
            refused = explained_error(self._config, error)
            if not isinstance(refused, BrokerAwayError):
                raise refused
        return True

    def _batches(self, messages: Sequence[Message]) -> list[Batch]:
        found = []
        for partition, run in groupby(sorted(messages, key=PARTITION), key=PARTITION):
            batch = batch_of(partition, list(run))
            self._positions[partition] = batch.next_offset
            found.append(batch)
        return found

    def position(self, partition: int) -> int:
        # librdkafka's own position also goes past the markers that transactions leave after their records.
        (at,) = self._consumer.position([TopicPartition(self._topic, partition)])
        return max(int(at.offset), self._positions[partition])

    def close(self) -> None:
        self._consumer.close()
