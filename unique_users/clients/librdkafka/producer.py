"""The producer of librdkafka."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import repeat
from operator import length_hint
from time import monotonic
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message

from unique_users.clients.librdkafka.errors import REFUSED, Refusal, explained, explained_error, reason
from unique_users.clients.librdkafka.settings import PRODUCER, SLICE_SECONDS, built, settings_of
from unique_users.clients.librdkafka.stall_detection import Stuck
from unique_users.clients.protocols import REQUEST_SECONDS, Headers
from unique_users.config.schema import Config
from unique_users.config.secrets import without_values
from unique_users.errors import BrokerError, DeliveryError, TooLargeError


class LibrdkafkaProducer:
    """See protocols.Producer.

    At most 32 MiB are in flight. What is sent beyond that waits here until backpressure_eased or flush hands it over:
    as much as a caller sends before it asks.
    """

    def __init__(self, config: Config, compression: str, batch_bytes_max: int | None = None) -> None:
        self._config = config
        self._failure: KafkaError | None = None
        self._waiting: deque[tuple[str, bytes | None, bytes | None, int, dict[str, Any]]] = deque()
        self._refusal = Refusal(config)
        self._stuck = Stuck()
        settings = settings_of(config, {**PRODUCER, "compression.type": compression})
        if batch_bytes_max is not None:
            settings["batch.size"] = str(min(int(settings["batch.size"]), batch_bytes_max))
        # A callback for each record would cost as much as sending it.
        settings |= {"on_delivery": self._on_failure, "error_cb": self._refusal, "delivery.report.only.error": True}
        settings |= {"stats_cb": self._stuck}
        self._producer: Any = built(config, confluent_kafka.Producer, settings)
        self._refusal.connect(self._producer)

    def partitions(self, topic: str) -> int:
        with explained(self._config):
            described = self._producer.list_topics(topic, timeout=REQUEST_SECONDS).topics[topic]
        if described.error is not None:
            raise explained_error(self._config, described.error)
        return len(described.partitions)

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> None:
        to = -1 if partition is None else partition
        more: dict[str, Any] = {"headers": list(headers)} if headers else {}
        if timestamp_ms is not None:
            more["timestamp"] = timestamp_ms
        if not self._waiting:
            try:
                self._producer.produce(topic, value, key, to, **more)
            except BufferError:
                pass
            except KafkaException as error:
                raise _undelivered(error.args[0], self._config) from None
            else:
                return
        self._waiting.append((topic, value, key, to, more))

    def send_all(
        self,
        topic: str,
        values: Sequence[bytes],
        keys: Sequence[bytes | None] | None = None,
        partitions: Sequence[int] | None = None,
    ) -> None:
        columns = [values, *([] if keys is None else [keys]), *([] if partitions is None else [partitions])]
        if len({len(column) for column in columns}) > 1:
            raise ValueError("columns of unequal length")
        keys, partitions = keys or [None] * len(values), partitions or [-1] * len(values)
        sent = 0 if self._waiting else self._produce_all(topic, values, keys, partitions)
        rows = zip(values[sent:], keys[sent:], partitions[sent:], strict=True)
        self._waiting.extend((topic, *row, {}) for row in rows)

    def _produce_all(
        self, topic: str, values: Sequence[bytes], keys: Sequence[bytes | None], partitions: Sequence[int]
    ) -> int:
        """Hand over as many rows as there is room for. Returns their number."""
        # Called by map, produce costs a third less than in a loop of our own.
        untried = iter(values)
        try:
            deque(map(self._producer.produce, repeat(topic), untried, keys, partitions), maxlen=0)
        except BufferError:
            return len(values) - length_hint(untried) - 1
        except KafkaException as error:
            raise _undelivered(error.args[0], self._config) from None
        return len(values)

    def backpressure_eased(self, timeout_seconds: float) -> bool:
        self._served(self._producer.poll, 0)
        return self._hand_over(monotonic() + timeout_seconds)

    def flush(self, timeout_seconds: float) -> bool:
        deadline = monotonic() + timeout_seconds
        if not self._hand_over(deadline):
            return False
        unacknowledged = self._served(self._producer.flush, max(0.0, deadline - monotonic()))
        self._check()
        return bool(unacknowledged == 0)

    def _hand_over(self, deadline: float) -> bool:
        """Send what is waiting. Returns whether that is all of it."""
        self._check()
        while self._waiting:
            topic, value, key, to, more = self._waiting[0]
            try:
                self._producer.produce(topic, value, key, to, **more)
            except BufferError:
                if monotonic() >= deadline:
                    return False
                self._served(self._producer.poll, max(0.0, min(SLICE_SECONDS, deadline - monotonic())))
                self._check()
            except KafkaException as error:
                raise _undelivered(error.args[0], self._config) from None
            else:
                self._waiting.popleft()
        return True

    def _served(self, call: Callable[[float], int], seconds: float) -> int:
        """Let the client run its callbacks and wait. Raises DeliveryError for an error that makes it unusable.

        It raises such an error itself, for example when a broker restored from a copy does not know what it accepted.
        """
        try:
            return call(seconds)
        except KafkaException as error:
            raise _undelivered(error.args[0], self._config) from None
        except SystemError as error:
            # Python's complaint if the client runs callbacks while it raises: the exception may be lost by that.
            cause = error.__cause__
            if isinstance(cause, KafkaException):
                raise _undelivered(cause.args[0], self._config) from None
            self._check()
            raise DeliveryError("records were not acknowledged: the client cannot be used any more") from None

    def _on_failure(self, error: KafkaError | None, _message: Message) -> None:
        self._failure = self._failure or error

    def _check(self) -> None:
        if self._failure is not None:
            raise _undelivered(self._failure, self._config)
        with suppress(KafkaException):  # nobody answers: there is nobody to send the records to either
            if stuck := self._stuck.for_good(self._producer, SLICE_SECONDS):
                names = ", ".join(f"{topic}-{partition}" for topic, partition in sorted(stuck))
                raise DeliveryError(f"records were not acknowledged: the client does not accept the leader of {names}")

    def close(self) -> None:
        if self._producer is not None:
            self._producer.purge(blocking=False)
            self._producer = None  # the last reference: its end disconnects; its own close() would wait for a broker


_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}


def _undelivered(error: KafkaError, config: Config) -> DeliveryError | BrokerError:
    said = without_values(reason(error), config.kafka)
    if error.code() in REFUSED:
        return BrokerError(f"records were not acknowledged: {said}: check the rights of the `kafka:` section")
    kind = TooLargeError if error.code() in _TOO_LARGE else DeliveryError
    return kind(f"records were not acknowledged: {error.name()}: {said}")
