"""The producer of kafka-python."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from itertools import count
from time import monotonic

from kafka import KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.partitioner.default import murmur2

from unique_users.clients.kafka_python.errors import REFUSED, explained
from unique_users.clients.kafka_python.internals.column_sending import acknowledged, hand_over
from unique_users.clients.kafka_python.settings import PRODUCER, settings_of
from unique_users.clients.protocols import Headers
from unique_users.config.schema import Config
from unique_users.config.secrets import without_values
from unique_users.errors import BrokerError, DeliveryError, TooLargeError

IN_FLIGHT_BYTES_MAX = 32 * 1024 * 1024  # the client itself has no limit
RECORD_OVERHEAD_BYTES = 256  # roughly what a record in flight costs besides its bytes


class KafkaPythonProducer:
    """See protocols.Producer.

    The client's flush() does not raise for failed batches, and it holds any number of records. So both are handled
    here: every batch's future is checked, and at most 32 MiB are in flight.
    """

    def __init__(self, config: Config, compression: str, batch_bytes_max: int | None = None) -> None:
        self._config = config
        own = {**PRODUCER, "compression_type": None if compression == "none" else compression}
        settings = settings_of(config, own, KafkaProducer.DEFAULT_CONFIG)
        if batch_bytes_max is not None:
            settings["batch_size"] = min(settings["batch_size"], batch_bytes_max)
        with explained(config):
            self._producer = KafkaProducer(**settings)
        self._in_flight: deque[tuple[Callable[[float], bool], int]] = deque()  # is it acknowledged, and its bytes
        self._bytes = 0
        self._turns = count()

    def partitions(self, topic: str) -> int:
        with explained(self._config):
            return len(self._producer.partitions_for(topic))

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> None:
        try:
            texts = [(name, text or b"") for name, text in headers or ()]  # the client sends no null values
            future = self._producer.send(topic, value, key, texts, partition, timestamp_ms)
        except kafka_errors.KafkaError as error:
            raise _undelivered(error, self._config) from None
        self._sent(partial(acknowledged, future), len(value or b"") + RECORD_OVERHEAD_BYTES)

    def send_all(
        self,
        topic: str,
        values: Sequence[bytes],
        keys: Sequence[bytes | None] | None = None,
        partitions: Sequence[int] | None = None,
    ) -> None:
        try:
            there = len(self._producer.partitions_for(topic))  # always asked for: it makes the client look for leaders
            chosen = self._chosen(there, keys) if partitions is None else partitions
            for partition, its_values, its_keys in _by_partition(values, keys, chosen):
                self._send_columns(TopicPartition(topic, partition), its_values, its_keys)
        except kafka_errors.KafkaError as error:
            raise _undelivered(error, self._config) from None

    def _chosen(self, partitions: int, keys: Sequence[bytes | None] | None) -> int | Sequence[int]:
        """The partition of each record, or a single one for all of them."""
        if keys is None:
            return next(self._turns) % partitions
        if partitions == 1:
            return 0
        return [(next(self._turns) if key is None else _hash(key)) % partitions for key in keys]

    def _send_columns(self, partition: TopicPartition, values: Sequence[bytes], keys: Sequence[bytes | None]) -> None:
        for batch, size in hand_over(self._producer, partition, values, keys):
            self._sent(batch.acknowledged, size)

    def _sent(self, acknowledged: Callable[[float], bool], size: int) -> None:
        self._in_flight.append((acknowledged, size))
        self._bytes += size

    def backpressure_eased(self, timeout_seconds: float) -> bool:
        # Half of the window keeps the connection busy while the other half is waited for.
        return self._bytes <= IN_FLIGHT_BYTES_MAX or self._drained(IN_FLIGHT_BYTES_MAX // 2, timeout_seconds)

    def flush(self, timeout_seconds: float) -> bool:
        return self._drained(0, timeout_seconds)

    def _drained(self, bytes_max: int, timeout_seconds: float) -> bool:
        """Wait until at most `bytes_max` are in flight. Returns whether that is so."""
        deadline = monotonic() + timeout_seconds
        while self._in_flight and (self._bytes > bytes_max or not bytes_max):
            acknowledged, size = self._in_flight[0]
            try:
                if not acknowledged(max(0, deadline - monotonic())):
                    return False
            except kafka_errors.KafkaError as error:
                raise _undelivered(error, self._config) from None
            self._in_flight.popleft()
            self._bytes -= size
        return True

    def close(self) -> None:
        # The client flushes first and, if that fails, raises without closing anything.
        self._producer.flush = lambda _timeout=None: None
        self._producer.close(timeout=0)


def _by_partition(
    values: Sequence[bytes], keys: Sequence[bytes | None] | None, partitions: int | Sequence[int]
) -> Iterable[tuple[int, Sequence[bytes], Sequence[bytes | None]]]:
    """The records of each partition, in order."""
    keys = [None] * len(values) if keys is None else keys
    if isinstance(partitions, int):
        return [(partitions, values, keys)]
    if values and partitions.count(partitions[0]) == len(values) == len(keys) == len(partitions):
        return [(partitions[0], values, keys)]
    shares: defaultdict[int, tuple[list[bytes], list[bytes | None]]] = defaultdict(lambda: ([], []))
    for value, key, partition in zip(values, keys, partitions, strict=True):
        its_values, its_keys = shares[partition]
        its_values.append(value)
        its_keys.append(key)
    return [(partition, *share) for partition, share in shares.items()]


@lru_cache(maxsize=10_000)
def _hash(key: bytes) -> int:
    """The hash that chooses a key's partition in all of Kafka's own clients."""
    return int(murmur2(key)) & 0x7FFFFFFF


_TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)


def _undelivered(error: Exception, config: Config) -> DeliveryError | BrokerError:
    said = without_values(str(error), config.kafka)
    if isinstance(error, REFUSED):
        return BrokerError(f"records were not acknowledged: {said}: check the rights of the `kafka:` section")
    kind = TooLargeError if isinstance(error, _TOO_LARGE) else DeliveryError
    return kind(f"records were not acknowledged: {type(error).__name__}: {said}")
