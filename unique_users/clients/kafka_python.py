"""kafka-python behind the seam. With record_batches and refusals the only module that imports it."""

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import count
from threading import Lock
from time import monotonic
from typing import Any

from kafka import (
    ConsumerRebalanceListener,
    KafkaAdminClient,
    KafkaConsumer,
    KafkaProducer,
    OffsetAndMetadata,
    TopicPartition,
)
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.partitioner.default import murmur2

from unique_users.clients import FENCED, REQUEST_SECONDS, Batch, Headers, Polled, Position, TopicState, msk
from unique_users.clients.record_batches import (
    acknowledged,
    columns,
    hand_over,
    joined,
    read_columns,
)
from unique_users.clients.refusals import hear_refusals
from unique_users.config import Config, Topic
from unique_users.errors import BrokerAwayError, BrokerError, DeliveryError, TopicError, UsageError

# The client logs every attempt to reach a broker; what matters of it is said once, by the loops.
logging.getLogger("kafka").setLevel(logging.CRITICAL)

hear_refusals()

BOOTSTRAP_SECONDS = 2.0  # one attempt to reach the broker; callers try again
CLOSE_SECONDS = 3.0
POLL_RECORDS_MAX = 5_000
GATHER_BYTES = 1024 * 1024  # what a broker gathers at most: the records of some polls
GATHER_SECONDS = 0.25  # what records wait at most: it is the number of polls and fetches that costs
IN_FLIGHT_BYTES_MAX = 32 * 1024 * 1024  # the client itself has no bound
REQUEST_BYTES_MAX = 16 * 1024 * 1024  # the largest record that any topic here takes fits in
RECORD_OVERHEAD_BYTES = 256  # about what a record in flight costs beside its bytes

_CLIENT: dict[str, Any] = {
    "bootstrap_timeout_ms": BOOTSTRAP_SECONDS * 1000,
    "reconnect_backoff_max_ms": 1_000,  # the broker is often one that restarts nearby
}
_CONSUMER: dict[str, Any] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "isolation_level": "read_committed",
    "max_poll_records": POLL_RECORDS_MAX,
    "max_partition_fetch_bytes": 4 * 1024 * 1024,
    "fetch_max_bytes": 16 * 1024 * 1024,
    "metrics_enabled": False,
    # Members hear with a heartbeat that one has come or left, and read nothing until all have: 3 s are the default.
    "heartbeat_interval_ms": 1_000,
}
_PRODUCER: dict[str, Any] = {
    "acks": "all",
    "batch_size": 1_000_000,  # uncompressed, and just below what a topic takes by default
    "linger_ms": 0,  # records come in columns, as many as there are, and more gather while a batch is on its way
    "max_request_size": REQUEST_BYTES_MAX,
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
    "delivery_timeout_ms": 24 * 3600 * 1000,  # a broker that is away is waited for; the loops say so
    "max_block_ms": REQUEST_SECONDS * 1000,
}
_KNOWN = {*KafkaConsumer.DEFAULT_CONFIG, *KafkaProducer.DEFAULT_CONFIG, *KafkaAdminClient.DEFAULT_CONFIG}


def _settings(config: Config, own: Mapping[str, Any], takes: Mapping[str, Any]) -> dict[str, Any]:
    """Our settings under the user's `kafka:` section, of which each client gets the names it takes.

    Names may be written with dots, as other clients do; texts from the environment become numbers where the client's
    default is one.
    """
    settings = {name: value for name, value in {**_CLIENT, **own}.items() if name in takes}
    for dotted, given in config.kafka.items():
        name = dotted.replace(".", "_")
        if name not in _KNOWN:
            message = f"kafka.{dotted}: kafka-python has no such setting"
            raise UsageError(message)
        if name in takes:
            settings[name] = _typed(given, takes[name], dotted)
    if settings.get("sasl_mechanism") == msk.MECHANISM:
        msk.check_iam(settings.get("security_protocol"))
    return settings


def _typed(given: Any, default: Any, name: str) -> Any:
    if isinstance(given, str) and isinstance(default, int | float) and not isinstance(default, bool):
        try:
            return float(given) if "." in given else int(given)
        except ValueError:
            message = f"kafka.{name}: expected a number"
            raise UsageError(message) from None
    return given


_REFUSED = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.AuthorizationError,
)


def _refusal(servers: str, error: Exception) -> str:
    """Who is refused needs another password or, once let in, more rights."""
    mend = "rights" if isinstance(error, kafka_errors.AuthorizationError) else "user and password"
    return f"the broker at {servers} refuses: {error}: check the {mend} of the `kafka:` section"


@contextmanager
def _explained(config: Config) -> Iterator[None]:
    """Turn the client's errors into ours. Never prints a setting: some are secrets."""
    servers = ", ".join(config.bootstrap_servers)
    try:
        yield
    except _REFUSED as error:
        raise BrokerError(_refusal(servers, error)) from None
    except (
        kafka_errors.KafkaConfigurationError,
        kafka_errors.UnsupportedCodecError,
        AssertionError,
    ) as error:
        message = f"kafka: kafka-python does not take these settings: {error}"
        raise UsageError(message) from None
    except kafka_errors.FencedInstanceIdError:
        raise BrokerError(FENCED) from None
    except kafka_errors.RetriableError as error:
        message = f"no answer from the broker at {servers} ({type(error).__name__})"
        raise BrokerAwayError(message) from None
    except kafka_errors.KafkaError as error:
        message = f"the broker at {servers} answers with {type(error).__name__}: {error}"
        raise BrokerError(message) from None


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes what a rebalance did; called on the client's I/O thread, asked by poll."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._taken: set[int] = set()
        self._lost: set[int] = set()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        with self._lock:
            self._taken |= {partition.partition for partition in assigned}

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        with self._lock:
            gone = {partition.partition for partition in revoked}
            self._taken -= gone
            self._lost |= gone

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self.on_partitions_revoked(lost)

    def changes(self) -> tuple[frozenset[int], frozenset[int]]:
        with self._lock:
            taken, lost = frozenset(self._taken), frozenset(self._lost)
            self._taken, self._lost = set(), set()
        return taken, lost


class _LetsGo:
    """Lets go of thread and sockets when no broker answers; the clients' own constructors keep them for ever."""

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except BaseException:
            self._closed = True
            if (connections := getattr(self, "_client", None)) is not None:
                connections.close()
                self._net.stop()  # type: ignore[attr-defined]
            raise


class _Consumer(_LetsGo, KafkaConsumer):  # type: ignore[misc]
    pass


class _Admin(_LetsGo, KafkaAdminClient):  # type: ignore[misc]
    pass


class KafkaPythonConsumer:
    """See clients.Consumer."""

    def __init__(self, config: Config, topic: str, group: str, *, gathers: bool = False) -> None:
        self._config = config
        self._topic = topic
        self._listener = _Listener()
        self._started: set[int] = set()
        own = {**_CONSUMER, "group_id": group}
        if gathers:
            own |= {"fetch_min_bytes": GATHER_BYTES, "fetch_max_wait_ms": round(GATHER_SECONDS * 1000)}
        settings = _settings(config, own, KafkaConsumer.DEFAULT_CONFIG)
        settings["enable_auto_commit"] = False
        settings.setdefault("partition_assignment_strategy", [CooperativeStickyAssignor()])
        with _explained(config):
            self._consumer = _Consumer(**settings)
            read_columns(self._consumer._fetcher, settings["max_poll_records"])  # noqa: SLF001
            self._consumer.subscribe([topic], listener=self._listener)

    def poll(self, timeout_seconds: float) -> Polled:
        self._rejoin_if_forgotten()
        try:
            with _explained(self._config):
                polled = self._consumer.poll(timeout_ms=max(0, timeout_seconds) * 1000, max_records=1)
        except BrokerAwayError:
            polled = {}
        taken, lost = self._listener.changes()
        self._started -= lost
        batches = [
            Batch(partition.partition, *joined([columns(record) for record in records]))
            for partition, records in polled.items()
            if partition.partition in self._started and records
        ]
        return Polled(batches, taken, lost)

    def start(self, partition: int, offset: int) -> None:
        with _explained(self._config):
            try:
                self._consumer.seek(self._partition(partition), offset)
            except (AssertionError, ValueError, kafka_errors.IllegalStateError):
                return  # lost meanwhile: the next poll says so
        self._started.add(partition)

    def position(self, partition: int) -> int:
        with _explained(self._config):
            offset = self._consumer.position(self._partition(partition), timeout_ms=REQUEST_SECONDS * 1000)
        if offset is None:
            raise BrokerAwayError(f"no answer about the position in {self._topic}-{partition}")
        return int(offset)

    def committed(self, partition: int) -> Position | None:
        with _explained(self._config):
            committed = self._consumer.committed(
                self._partition(partition), metadata=True, timeout_ms=REQUEST_SECONDS * 1000
            )
        if committed is None or committed.offset < 0:
            return None
        return Position(committed.offset, (committed.metadata or "").rstrip("\0"))

    def commit(self, positions: Mapping[int, Position], timeout_seconds: float = REQUEST_SECONDS) -> bool:
        offsets = {
            self._partition(partition): OffsetAndMetadata(position.offset, _terminated(position.metadata), -1)
            for partition, position in positions.items()
        }
        try:
            with _explained(self._config):
                self._consumer.commit(offsets, timeout_ms=timeout_seconds * 1000)
        except BrokerAwayError:
            raise
        except BrokerError as error:
            if isinstance(error.__context__, _REBALANCING):
                return False
            raise
        return True

    def bounds(self, partitions: Iterable[int], timeout_seconds: float = REQUEST_SECONDS) -> dict[int, tuple[int, int]]:
        asked = [self._partition(partition) for partition in partitions]
        if not asked:
            return {}
        with _explained(self._config):
            first = self._consumer.beginning_offsets(asked, timeout_ms=timeout_seconds * 1000)
        ends = self.ends([partition.partition for partition in asked], timeout_seconds)
        return {p.partition: (first[p], ends[p.partition]) for p in asked}

    def ends(self, partitions: Iterable[int], timeout_seconds: float = REQUEST_SECONDS) -> dict[int, int]:
        asked = [self._partition(partition) for partition in partitions]
        if not asked:
            return {}
        with _explained(self._config):
            ends = self._consumer.end_offsets(asked, timeout_ms=timeout_seconds * 1000)
        return {partition.partition: end for partition, end in ends.items()}

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=CLOSE_SECONDS * 1000)

    def _rejoin_if_forgotten(self) -> None:
        """Mend a fault of kafka-python 3.0.12: a poll that times out during a rejoin leaves its result unapplied.

        The member then keeps its place in the group and reads nothing, for ever.
        """
        coordinator = self._consumer._coordinator  # noqa: SLF001
        if coordinator.rejoining and not coordinator.need_rejoin():
            coordinator.request_rejoin()

    def _partition(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)


_REBALANCING = (
    kafka_errors.CommitFailedError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
    kafka_errors.RebalanceInProgressError,
)


def _terminated(metadata: str) -> str:
    """As confluent-kafka writes it: that client reads beyond a text without a final zero byte."""
    return metadata + "\0" if metadata else ""


class KafkaPythonProducer:
    """See clients.Producer.

    flush() of the client does not raise for failed batches and it holds any number of records, so both are done
    here: every batch's future is looked at, and at most 32 MiB are in flight.
    """

    def __init__(self, config: Config, compression: str) -> None:
        self._config = config
        own = {**_PRODUCER, "compression_type": None if compression == "none" else compression}
        with _explained(config):
            self._producer = KafkaProducer(**_settings(config, own, KafkaProducer.DEFAULT_CONFIG))
        self._in_flight: deque[tuple[Callable[[float], bool], int]] = deque()  # is it acknowledged, and its bytes
        self._bytes = 0
        self._turns = count()

    def partitions(self, topic: str) -> int:
        with _explained(self._config):
            return len(self._producer.partitions_for(topic))

    def send(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
    ) -> None:
        try:
            future = self._producer.send(topic, value, key, headers, partition)
        except kafka_errors.KafkaError as error:
            raise _undelivered(error) from None
        self._sent(partial(acknowledged, future), len(value) + RECORD_OVERHEAD_BYTES)

    def send_all(
        self,
        topic: str,
        values: Sequence[bytes],
        keys: Sequence[bytes | None] | None = None,
        partitions: Sequence[int] | None = None,
    ) -> None:
        try:
            there = len(self._producer.partitions_for(topic))  # asked for always: it makes the client look for leaders
            chosen = self._chosen(there, keys) if partitions is None else partitions
            for partition, its_values, its_keys in _by_partition(values, keys, chosen):
                self._send_columns(TopicPartition(topic, partition), its_values, its_keys)
        except kafka_errors.KafkaError as error:
            raise _undelivered(error) from None

    def _chosen(self, partitions: int, keys: Sequence[bytes | None] | None) -> int | Sequence[int]:
        """The partition of each record, or the one of all of them."""
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

    def has_room(self, timeout_seconds: float) -> bool:
        # Half of the window goes on filling the connection while the other half is waited for.
        return self._bytes <= IN_FLIGHT_BYTES_MAX or self._drained(IN_FLIGHT_BYTES_MAX // 2, timeout_seconds)

    def flush(self, timeout_seconds: float) -> bool:
        return self._drained(0, timeout_seconds)

    def _drained(self, bytes_max: int, timeout_seconds: float) -> bool:
        """Wait until at most so much is in flight; return whether that is so."""
        deadline = monotonic() + timeout_seconds
        while self._in_flight and (self._bytes > bytes_max or not bytes_max):
            acknowledged, size = self._in_flight[0]
            try:
                if not acknowledged(max(0, deadline - monotonic())):
                    return False
            except kafka_errors.KafkaError as error:
                raise _undelivered(error) from None
            self._in_flight.popleft()
            self._bytes -= size
        return True

    def close(self) -> None:
        # The client flushes first and, when that fails, raises without closing anything.
        self._producer.flush = lambda _timeout=None: None
        self._producer.close(timeout=0)


def _by_partition(
    values: Sequence[bytes], keys: Sequence[bytes | None] | None, partitions: int | Sequence[int]
) -> Iterable[tuple[int, Sequence[bytes], Sequence[bytes | None]]]:
    """The records of each partition, in their order."""
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
    """What chooses a key's partition, in all of Kafka's own clients."""
    return int(murmur2(key)) & 0x7FFFFFFF


def _undelivered(error: Exception) -> DeliveryError | BrokerError:
    if isinstance(error, _REFUSED):
        return BrokerError(f"records were not acknowledged: {error}: check the rights of the `kafka:` section")
    return DeliveryError(f"records were not acknowledged: {type(error).__name__}: {error}")


class KafkaPythonAdmin:
    """See clients.Admin."""

    def __init__(self, config: Config) -> None:
        self._config = config
        own = {"request_timeout_ms": int(REQUEST_SECONDS * 1000)}
        with _explained(config):
            self._admin = _Admin(**_settings(config, own, KafkaAdminClient.DEFAULT_CONFIG))

    def describe(self, name: str) -> TopicState | None:
        with _explained(self._config):
            (topic,) = self._admin.describe_topics([name])
            if topic["error_code"] == kafka_errors.UnknownTopicOrPartitionError.errno:
                return None
            if topic["error_code"]:
                raise kafka_errors.for_code(topic["error_code"])(name)
        return TopicState(str(topic.get("topic_id") or ""), len(topic["partitions"]))

    def settings(self, name: str) -> Mapping[str, str]:
        with _explained(self._config):
            described = self._admin.describe_configs(
                [ConfigResource(ConfigResourceType.TOPIC, name)], config_filter="all"
            )
        return {key: setting["value"] for key, setting in described["topic"][name].items()}

    def create(self, topic: Topic) -> None:
        wanted = {
            "num_partitions": topic.partitions,
            "replication_factor": topic.replication,
            "configs": {name: _text(value) for name, value in topic.settings.items()},
        }
        with _explained(self._config):
            try:
                self._admin.create_topics({topic.name: wanted}, wait_for_metadata=True)
            except kafka_errors.TopicAlreadyExistsError:
                self._admin.wait_for_topics([topic.name])
            except _CREATION_REFUSED as error:
                message = f"topic {topic.name!r} cannot be created with {wanted}: {error}"
                raise TopicError(message) from None

    def delete(self, names: Sequence[str]) -> None:
        with _explained(self._config):
            self._admin.delete_topics(list(names), raise_errors=False)

    def lag(self, group: str, topic: str) -> int:
        with _explained(self._config):
            (described,) = self._admin.describe_topics([topic])
            asked = [TopicPartition(topic, part["partition_index"]) for part in described["partitions"]]
            committed = self._admin.list_group_offsets({group: asked})[group]
            ends = self._admin.list_partition_offsets(dict.fromkeys(asked, -1))
        return sum(ends[tp].offset - max(0, committed[tp].offset if tp in committed else 0) for tp in asked)

    def close(self) -> None:
        self._admin.close()


make_consumer = KafkaPythonConsumer
make_producer = KafkaPythonProducer
make_admin = KafkaPythonAdmin

_CREATION_REFUSED = (
    kafka_errors.InvalidReplicationFactorError,
    kafka_errors.InvalidPartitionsError,
    kafka_errors.InvalidConfigurationError,
    kafka_errors.PolicyViolationError,
    kafka_errors.InvalidTopicError,
)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
