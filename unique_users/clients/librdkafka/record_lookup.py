"""Single records of a topic, by a consumer that is restarted at each of them."""
# ruff: noqa: SLF001  # librdkafka's names of errors that no broker sent begin with an underscore

from time import monotonic
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from unique_users.clients.librdkafka.batches import time_of
from unique_users.clients.librdkafka.errors import Refusal, explained, explained_error
from unique_users.clients.librdkafka.settings import OF_GROUPS, SLICE_SECONDS, built, settings_of
from unique_users.clients.protocols import StoredRecord
from unique_users.config.schema import Config
from unique_users.errors import BrokerAwayError

_LOOKUP: dict[str, Any] = {
    "check.crcs": True,
    "queued.min.messages": 1,
    # The broker then sends the batch with the record, whatever its size, and nothing more.
    "fetch.message.max.bytes": 1,
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 5,
}
# What the promise depends on: no group, nothing committed, the record at that offset or none.
_FIXED: dict[str, Any] = {
    "group.id": "peek",  # a consumer must have one: nothing is requested or stored in its name
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "enable.partition.eof": True,
    "isolation.level": "read_uncommitted",
}


class LibrdkafkaRecordLookup:
    """See protocols.RecordLookup."""

    def __init__(self, config: Config, topic: str) -> None:
        self._config = config
        self._topic = topic
        self._refusal = Refusal(config)
        self._consumer: Any = self._connected()

    def _connected(self) -> Any:
        settings = settings_of(self._config, _LOOKUP) | _FIXED | {"error_cb": self._refusal}
        settings = {name: value for name, value in settings.items() if name not in OF_GROUPS}
        consumer = built(self._config, confluent_kafka.Consumer, settings)
        self._refusal.connect(consumer)
        return consumer

    def record_at(self, partition: int, offset: int, timeout_seconds: float) -> StoredRecord | None:
        deadline = monotonic() + timeout_seconds
        if self._consumer is None:
            self._consumer = self._connected()
        with explained(self._config):
            # Anything left of an earlier question belongs to another assignment, and is dropped.
            self._consumer.assign([TopicPartition(self._topic, partition, offset)])
            try:
                message = self._answer(deadline)
            finally:
                self._consumer.unassign()
            if message is None:
                self._give_up()
        if message is None:
            raise BrokerAwayError(f"no answer about offset {offset} of {self._topic}-{partition}")
        return _peeked(message, offset)

    def _give_up(self) -> None:
        """Use a new client for the next question. Raises KafkaException if the broker says why it gave nothing.

        What this client knows may come from before the broker was restored from a copy.
        """
        former, self._consumer = self._consumer, None
        if error := former.list_topics(self._topic, timeout=SLICE_SECONDS).topics[self._topic].error:
            raise KafkaException(error)

    def _answer(self, deadline: float) -> Message | None:
        """The first record at or after the requested offset, or the message that there is none."""
        while (left := deadline - monotonic()) > 0:
            message: Message | None = self._consumer.poll(min(SLICE_SECONDS, left))
            self._refusal.check()
            if message is None:
                continue
            error = message.error()
            if error is None or error.code() in _NO_RECORD:
                return message
            if error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
                explained = explained_error(self._config, error)
                if not isinstance(explained, BrokerAwayError):
                    raise explained
        return None

    def close(self) -> None:
        self._consumer = None  # the last reference: destroying it disconnects


_NO_RECORD = {
    KafkaError._PARTITION_EOF,
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError._LOG_TRUNCATION,
    KafkaError.OFFSET_OUT_OF_RANGE,
}


def _peeked(message: Message, offset: int) -> StoredRecord | None:
    if message.error() is not None or message.offset() != offset:
        return None
    epoch = message.leader_epoch()
    return StoredRecord(offset, -1 if epoch is None else epoch, message.key(), message.value(), time_of(message))
