"""librdkafka (the package confluent-kafka) behind the seam. The only module that imports it."""
# ruff: noqa: SLF001  # librdkafka's names of errors that no broker sent begin with an underscore

import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from operator import itemgetter, length_hint
from threading import Thread
from time import monotonic, sleep
from typing import Any, TypeVar
from uuid import UUID

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec

from unique_users.clients import FENCED, REQUEST_SECONDS, Batch, Headers, Polled, Position, TopicState
from unique_users.config import Config, Topic
from unique_users.errors import BrokerAwayError, BrokerError, DeliveryError, TopicError, UsageError

BOOTSTRAP_SECONDS = 2.0  # one attempt to reach the broker; callers try again
CLOSE_SECONDS = 3.0
POLL_RECORDS_MAX = 1_000  # 2 MB of frames, which stay in the processor's cache from the fetch to the parser
GATHER_BYTES = 512 * 1024  # what a broker gathers at most, for as long as a fetch may wait
FILL_SECONDS = 0.02  # what a poll waits for more records behind its first: fewer, larger batches cost less
AHEAD_BYTES_MAX = 32 * 1024 * 1024  # of records that come while a commit is waited for
RECORD_OVERHEAD_BYTES = 256  # about what a record here costs beside its bytes
SLICE_SECONDS = 0.1  # what a rebalance waits at most until poll tells of it
ANSWER_SLICE_SECONDS = 0.01  # what the answer to a commit waits at most
REQUEST_BYTES_MAX = 16 * 1024 * 1024  # the largest record that any topic here takes fits in
IN_FLIGHT_KBYTES_MAX = 32 * 1024
IN_FLIGHT_RECORDS_MAX = 100_000  # each costs librdkafka about 200 bytes beside its own

_CLIENT: dict[str, Any] = {
    "log_level": 0,  # it logs every attempt to reach a broker; what matters of it is said once, by the loops
    "reconnect.backoff.max.ms": 1_000,  # the broker is often one that restarts nearby
    "allow.auto.create.topics": False,
}
_CONSUMER: dict[str, Any] = {
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",
    "partition.assignment.strategy": "cooperative-sticky",
    "heartbeat.interval.ms": 1_000,  # members hear with one that another has come or left: 3 s are the default
    "check.crcs": True,  # off by default, but a damaged record must not be counted
    # What is fetched ahead, in place of 64 MiB: less cost nothing when measured.
    "queued.max.messages.kbytes": 16 * 1024,
    "queued.min.messages": 5000,
    # With a full queue the fetcher sleeps for so long; its default of 1 s makes the reader wait for it.
    "fetch.queue.backoff.ms": 5,
    # A connection answers in order, so a question waits for the fetch before it; new records end a fetch at once.
    "fetch.wait.max.ms": 100,
    # A fetch is counted as it comes over the network: what it unpacks to may be ten times as much.
    "fetch.message.max.bytes": 1024 * 1024,
    "fetch.max.bytes": 16 * 1024 * 1024,
}
_PRODUCER: dict[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,  # order and no duplicates within a producer, while several batches are in flight
    "partitioner": "murmur2_random",  # what Kafka's own clients do; librdkafka's default is another hash
    "linger.ms": 50,
    "batch.size": 1_000_000,  # uncompressed, and just below what a topic takes by default
    "batch.num.messages": 50_000,  # batch.size decides
    "queue.buffering.max.kbytes": IN_FLIGHT_KBYTES_MAX,
    "queue.buffering.max.messages": IN_FLIGHT_RECORDS_MAX,
    "message.max.bytes": REQUEST_BYTES_MAX,
    "message.timeout.ms": 24 * 3600 * 1000,  # a broker that is away is waited for; the loops say so
}

# Names of kafka-python, with dots, that librdkafka calls otherwise.
_RENAMED = {
    "sasl.plain.username": "sasl.username",
    "sasl.plain.password": "sasl.password",
    "ssl.cafile": "ssl.ca.location",
    "ssl.certfile": "ssl.certificate.location",
    "ssl.keyfile": "ssl.key.location",
    "ssl.password": "ssl.key.password",
    "ssl.crlfile": "ssl.crl.location",
    "ssl.ciphers": "ssl.cipher.suites",
    "ssl.check.hostname": "ssl.endpoint.identification.algorithm",
    "fetch.max.wait.ms": "fetch.wait.max.ms",
    "max.request.size": "message.max.bytes",
    "log.level": "log_level",
    "metadata.max.age.ms": "topic.metadata.refresh.interval.ms",  # its own of that name only bounds a cache
}
_SECRET = re.compile(r"password|secret|\.pem$|token|oauthbearer\.config")


def _settings(config: Config, own: Mapping[str, Any]) -> dict[str, Any]:
    """Our settings under the user's `kafka:` section, which may be written with the names of kafka-python."""
    settings = {**_CLIENT, **own}
    for given, value in config.kafka.items():
        name = _native(given)
        if name == "proxy.url":
            raise UsageError(f"kafka.{given}: librdkafka cannot use a proxy: leave it out, or use client: kafka-python")
        if value == "AWS_MSK_IAM":
            raise UsageError(f"kafka.{given}: librdkafka has no AWS_MSK_IAM: use client: kafka-python")
        if given.replace(".", "_") == "ssl_check_hostname":
            settings[name] = "none" if str(value).lower() == "false" else "https"
        elif value is not None:
            settings[name] = ",".join(map(str, value)) if isinstance(value, list) else value
    return {name: _text(value) if isinstance(value, bool | int | float) else value for name, value in settings.items()}


def _native(name: str) -> str:
    dotted = name.replace("_", ".")
    return _RENAMED.get(dotted, dotted)


Built = TypeVar("Built")

_UNKNOWN = re.compile(r'No such configuration property: "([^"]+)"')
_BAD_VALUE = re.compile(r'onfiguration property "([^"]+)"(?: value \S+ is outside (?:the )?allowed range (\S+))?')


def _built(config: Config, build: Callable[[dict[str, Any]], Built], settings: dict[str, Any]) -> Built:
    """The client that `build` makes of the settings. An error names the key and never the value: some are secrets."""
    given = {_native(name): name for name in config.kafka}
    try:
        return build(settings)
    except (KafkaException, TypeError, ValueError) as error:
        text = _reason(error.args[0]) if isinstance(error, KafkaException) else str(error)
    if match := _UNKNOWN.search(text):
        raise UsageError(f"kafka.{given.get(match[1], match[1])}: librdkafka has no such setting")
    if match := _BAD_VALUE.search(text):
        expected = f", expected {match[2]}" if match[2] else ""
        raise UsageError(f"kafka.{given.get(match[1], match[1])}: librdkafka does not take this value{expected}")
    for name, value in settings.items():
        if _SECRET.search(name):
            text = text.replace(str(value), "***")
    raise UsageError(f"kafka: librdkafka does not take these settings: {text}")


def _reason(error: KafkaError) -> str:
    return " ".join(error.str().split())


_NO_RIGHT = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
_REFUSED = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, *_NO_RIGHT}
_AWAY = {
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._WAIT_COORD,
    KafkaError._WAIT_CACHE,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError.INCONSISTENT_TOPIC_ID,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NOT_CONTROLLER,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.THROTTLING_QUOTA_EXCEEDED,
}
_REBALANCING = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.STALE_MEMBER_EPOCH,
    KafkaError.FENCED_MEMBER_EPOCH,
    KafkaError._ASSIGNMENT_LOST,
}


def _explained_error(config: Config, error: KafkaError) -> BrokerError:
    """Our error for the client's. Never holds a setting but the address."""
    servers = ", ".join(config.bootstrap_servers)
    if error.code() in {KafkaError.FENCED_INSTANCE_ID, KafkaError._FATAL} and "group.instance.id" in error.str():
        return BrokerError(FENCED)
    if error.code() in _REFUSED:
        mend = "rights" if error.code() in _NO_RIGHT else "user and password"
        return BrokerError(
            f"the broker at {servers} refuses: {_reason(error)}: check the {mend} of the `kafka:` section"
        )
    if error.code() in _AWAY or error.retriable():
        return BrokerAwayError(f"no answer from the broker at {servers} ({error.name()})")
    return BrokerError(f"the broker at {servers} answers with {error.name()}: {_reason(error)}")


@contextmanager
def _explained(config: Config) -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise _explained_error(config, error.args[0]) from None


class _Refusal:
    """Hears the errors that the client tells aside, on its callback, and keeps the one that waiting does not mend."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._error: KafkaError | None = None
        self._tls: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        if error.code() in _REFUSED or error.fatal():
            self._error = error
        elif error.code() == KafkaError._SSL:
            self._tls = error

    def check(self) -> None:
        """Raise BrokerError if there is such an error."""
        if self._error is not None:
            raise _explained_error(self._config, self._error)

    def connect(self, client: Any) -> None:
        """Wait until a broker answers: making a client does not. Raises BrokerAwayError, BrokerError."""
        try:
            with _explained(self._config):
                # Any name will do, also of a topic that is not there: to ask for all would be long on a large cluster.
                client.list_topics("__consumer_offsets", timeout=BOOTSTRAP_SECONDS)
        except BrokerAwayError:
            client.poll(0)  # has the callback called
            self.check()
            if self._tls is not None:
                raise _explained_error(self._config, self._tls) from None
            raise


class LibrdkafkaConsumer:
    """See clients.Consumer.

    A partition that the group gives us is assigned to librdkafka only when it is started, so that nothing is fetched
    for it before. A commit waits for its answer where records come too: those are kept for the next poll.
    """

    def __init__(self, config: Config, topic: str, group: str, *, gathers: bool = False) -> None:
        self._config = config
        self._topic = topic
        self._owned: set[int] = set()
        self._taken: set[int] = set()
        self._lost: set[int] = set()
        self._positions: dict[int, int] = {}  # of the partitions started
        self._ahead: list[Message] = []
        self._answer: tuple[KafkaError | None, Sequence[TopicPartition]] = (None, [])  # to the last commit answered
        self._refusal = _Refusal(config)
        own = {**_CONSUMER, "group.id": group}
        if gathers:
            own["fetch.min.bytes"] = GATHER_BYTES
        settings = _settings(config, own)
        settings |= {"enable.auto.commit": False, "enable.auto.offset.store": False}
        settings |= {"error_cb": self._refusal, "on_commit": self._on_commit}
        if settings.get("group.protocol") == "consumer":
            del settings["partition.assignment.strategy"]  # the broker's business then
        self._incremental = "cooperative" in settings.get("partition.assignment.strategy", "cooperative")
        self._consumer = _built(config, confluent_kafka.Consumer, settings)
        self._refusal.connect(self._consumer)
        self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)

    def poll(self, timeout_seconds: float) -> Polled:
        deadline = monotonic() + timeout_seconds
        messages, self._ahead = self._ahead, []
        with _explained(self._config):
            while not messages:
                # Asked for many, librdkafka would wait until it has them all: one first, then what is there.
                messages = self._consumer.consume(1, max(0.0, min(SLICE_SECONDS, deadline - monotonic())))
                if self._taken or self._lost or monotonic() >= deadline:
                    break
            if messages:
                messages += self._consumer.consume(POLL_RECORDS_MAX - 1, FILL_SECONDS)
        self._refusal.check()
        if any(map(_ERROR, messages)):
            messages = self._without_errors(messages)
        batches = self._batches(messages)
        taken, lost = frozenset(self._taken), frozenset(self._lost)
        self._taken, self._lost = set(), set()
        return Polled(batches, taken, lost)

    def start(self, partition: int, offset: int) -> None:
        if partition not in self._owned:
            return  # lost meanwhile: the next poll says so, or has said so
        again = partition in self._positions
        self._positions[partition] = offset
        self._ahead = [message for message in self._ahead if message.partition() != partition]
        with _explained(self._config):
            if not self._incremental:
                self._consumer.assign([self._partition(p, at) for p, at in self._positions.items()])
            elif not again:
                self._consumer.incremental_assign([self._partition(partition, offset)])
            else:
                self._seek(self._partition(partition, offset))

    def _seek(self, partition: TopicPartition) -> None:
        try:
            self._consumer.seek(partition)
        except KafkaException as error:
            if error.args[0].code() not in {KafkaError._STATE, KafkaError._PREV_IN_PROGRESS}:
                raise
            # Its reading has not begun yet.
            self._consumer.incremental_unassign([partition])
            self._consumer.incremental_assign([partition])

    def position(self, partition: int) -> int:
        if partition not in self._owned:
            raise BrokerError(f"{self._topic}-{partition} is another member's")
        if partition not in self._positions:
            committed = self.committed(partition)
            return committed.offset if committed else self.bounds([partition])[partition][0]
        if self._ahead:
            return self._positions[partition]
        # librdkafka's own position also passes the marks that transactions leave behind their records.
        (at,) = self._consumer.position([self._partition(partition)])
        return max(int(at.offset), self._positions[partition])

    def committed(self, partition: int) -> Position | None:
        with _explained(self._config):
            (committed,) = self._consumer.committed([self._partition(partition)], timeout=REQUEST_SECONDS)
        self._raise_if(committed)
        return None if committed.offset < 0 else Position(committed.offset, _metadata(committed))

    def commit(self, positions: Mapping[int, Position], timeout_seconds: float = REQUEST_SECONDS) -> bool:
        if not positions.keys() <= self._owned:
            return False
        offsets = [
            TopicPartition(self._topic, p, at.offset, *([at.metadata] if at.metadata else []))
            for p, at in positions.items()
        ]
        self._answer = (None, [])
        try:
            # Its blocking form knows no timeout, and would keep poll waiting in any other thread as well.
            self._consumer.commit(offsets=offsets, asynchronous=True)
            if not self._answered({p: at.offset for p, at in positions.items()}, timeout_seconds):
                message = f"no answer to a commit of {self._topic}"
                raise BrokerAwayError(message)
            error, answers = self._answer
        except KafkaException as refused:
            error, answers = refused.args[0], []
        errors = [error for error in (error, *(answer.error for answer in answers)) if error]
        if any(error.code() in _REBALANCING for error in errors):
            return False
        if errors:
            raise _explained_error(self._config, errors[0])
        return True

    def _answered(self, asked: Mapping[int, int], timeout_seconds: float) -> bool:
        """Wait for the answer to a commit of these offsets; return whether it came."""
        deadline = monotonic() + timeout_seconds
        bytes_ahead = 0
        paused: list[TopicPartition] = []
        while not (answered := self._answer_is_for(asked)) and monotonic() < deadline:
            messages = self._consumer.consume(1, ANSWER_SLICE_SECONDS)
            self._ahead += messages
            bytes_ahead += sum(len(message) + RECORD_OVERHEAD_BYTES for message in messages)
            if bytes_ahead > AHEAD_BYTES_MAX and not paused:
                # What was fetched is forgotten by this, and fetched again.
                paused = [self._partition(partition) for partition in self._positions]
                self._consumer.pause(paused)
        if paused:
            self._consumer.resume([partition for partition in paused if partition.partition in self._positions])
        return answered

    def _answer_is_for(self, asked: Mapping[int, int]) -> bool:
        # The answer to an earlier commit may come late; to one of the same offsets, it is as good.
        error, answers = self._answer
        return {answer.partition: answer.offset for answer in answers} == asked or bool(error and not answers)

    def _on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        self._answer = (error, partitions)

    def bounds(self, partitions: Iterable[int], timeout_seconds: float = REQUEST_SECONDS) -> dict[int, tuple[int, int]]:
        asked = list(partitions)
        if not asked:
            return {}
        deadline = monotonic() + timeout_seconds
        first = self._offsets(asked, _FIRST, deadline)
        end = self._offsets(asked, _END, deadline)
        return {partition: (first[partition], end[partition]) for partition in asked}

    def ends(self, partitions: Iterable[int], timeout_seconds: float = REQUEST_SECONDS) -> dict[int, int]:
        asked = list(partitions)
        return self._offsets(asked, _END, monotonic() + timeout_seconds) if asked else {}

    def _offsets(self, partitions: Iterable[int], which: int, deadline: float) -> dict[int, int]:
        asked = [self._partition(partition, which) for partition in partitions]
        with _explained(self._config):
            answers = self._consumer.offsets_for_times(asked, timeout=max(0.0, deadline - monotonic()))
        for answer in answers:
            self._raise_if(answer)
        return {answer.partition: answer.offset for answer in answers}

    def close(self) -> None:
        # It waits for the broker as long as that takes: in a thread that is left behind in time.
        closing = Thread(target=self._consumer.close, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _on_assign(self, consumer: confluent_kafka.Consumer, partitions: Sequence[TopicPartition]) -> None:
        taken = {partition.partition for partition in partitions}
        self._owned |= taken
        self._taken |= taken
        # To assign something, be it nothing, is what the group waits for.
        (consumer.incremental_assign if self._incremental else consumer.assign)([])

    def _on_revoke(self, consumer: confluent_kafka.Consumer, partitions: Sequence[TopicPartition]) -> None:
        lost = {partition.partition for partition in partitions}
        self._owned -= lost
        self._taken -= lost
        self._lost |= lost
        started = [self._partition(partition) for partition in lost if self._positions.pop(partition, None) is not None]
        if self._incremental:
            consumer.incremental_unassign(started)
        else:
            consumer.unassign()

    def _without_errors(self, messages: Iterable[Message]) -> list[Message]:
        """The messages that are records. Raises BrokerError for an error that does not pass by itself."""
        for message in messages:
            error = message.error()
            if error is not None and error.code() != KafkaError._MAX_POLL_EXCEEDED:
                explained = _explained_error(self._config, error)
                if not isinstance(explained, BrokerAwayError):
                    raise explained
        return [message for message in messages if message.error() is None]

    def _batches(self, messages: list[Message]) -> list[Batch]:
        """Messages as columns, those of partitions that were lost or not started left out."""
        if not messages:
            return []
        numbers = list(map(_PARTITION, messages))
        if numbers.count(numbers[0]) == len(numbers):
            by_partition = {numbers[0]: messages}
        else:
            by_partition = defaultdict(list)
            for number, message in zip(numbers, messages, strict=True):
                by_partition[number].append(message)
        batches = [_columns(p, records) for p, records in by_partition.items() if p in self._positions]
        for batch in batches:
            self._positions[batch.partition] = batch.next_offset
        return batches

    def _partition(self, partition: int, offset: int = confluent_kafka.OFFSET_INVALID) -> TopicPartition:
        return TopicPartition(self._topic, partition, offset)

    def _raise_if(self, answer: TopicPartition) -> None:
        if answer.error is not None:
            raise _explained_error(self._config, answer.error)


def _metadata(committed: TopicPartition) -> str:
    """The text stored with a position.

    This client writes a zero byte behind it, and needs that to find the end of it. Behind a text of another client
    that has none, there may be a few bytes of anything, which only the reader of the text can tell from it.
    """
    try:
        return committed.metadata or ""
    except UnicodeDecodeError as error:
        return error.object[: error.start].decode()


_FIRST, _END = -2, -1  # the times that mean so in a request for offsets by time

# Called by map, these cost half of what a loop costs that asks each message.
_ERROR = Message.error
_PARTITION = Message.partition
_KEY = Message.key
_VALUE = Message.value
_OFFSET = Message.offset
_TIMESTAMP = Message.timestamp  # its kind, and what is taken of it:
_MILLISECONDS: Callable[[tuple[int, int]], int] = itemgetter(1)


def _columns(partition: int, messages: Sequence[Message]) -> Batch:
    first, last = messages[0].offset(), messages[-1].offset()
    whole = last - first + 1 == len(messages)
    return Batch(
        partition,
        list(map(_KEY, messages)),
        list(map(_VALUE, messages)),
        list(map(_MILLISECONDS, map(_TIMESTAMP, messages))),
        range(first, last + 1) if whole else list(map(_OFFSET, messages)),
    )


class LibrdkafkaProducer:
    """See clients.Producer.

    At most 32 MiB are in flight. What is sent beyond waits here until has_room or flush hand it over: as much as a
    caller sends before it asks.
    """

    def __init__(self, config: Config, compression: str) -> None:
        self._config = config
        self._failure: KafkaError | None = None
        self._waiting: deque[tuple[str, bytes, bytes | None, int, Headers]] = deque()
        self._refusal = _Refusal(config)
        settings = _settings(config, {**_PRODUCER, "compression.type": compression})
        # A record's own callback, were it called for each, would cost as much as sending it.
        settings |= {"on_delivery": self._on_failure, "error_cb": self._on_error, "delivery.report.only.error": True}
        self._producer: Any = _built(config, confluent_kafka.Producer, settings)
        self._refusal.connect(self._producer)

    def partitions(self, topic: str) -> int:
        with _explained(self._config):
            described = self._producer.list_topics(topic, timeout=REQUEST_SECONDS).topics[topic]
        if described.error is not None:
            raise _explained_error(self._config, described.error)
        return len(described.partitions)

    def send(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
    ) -> None:
        to = -1 if partition is None else partition
        if not self._waiting:
            try:
                if headers:
                    self._producer.produce(topic, value, key, to, headers=headers)
                else:
                    self._producer.produce(topic, value, key, to)
            except BufferError:
                pass
            except KafkaException as error:
                raise _undelivered(error.args[0]) from None
            else:
                return
        self._waiting.append((topic, value, key, to, headers or []))

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
        self._waiting.extend((topic, *row, []) for row in rows)

    def _produce_all(
        self, topic: str, values: Sequence[bytes], keys: Sequence[bytes | None], partitions: Sequence[int]
    ) -> int:
        """Hand over as many rows as there is room for, and return their number."""
        # Called by map, produce costs a third less than in a loop of our own.
        untried = iter(values)
        try:
            deque(map(self._producer.produce, repeat(topic), untried, keys, partitions), maxlen=0)
        except BufferError:
            return len(values) - length_hint(untried) - 1
        except KafkaException as error:
            raise _undelivered(error.args[0]) from None
        return len(values)

    def has_room(self, timeout_seconds: float) -> bool:
        self._producer.poll(0)
        return self._hand_over(monotonic() + timeout_seconds)

    def flush(self, timeout_seconds: float) -> bool:
        deadline = monotonic() + timeout_seconds
        if not self._hand_over(deadline):
            return False
        unacknowledged = self._producer.flush(max(0.0, deadline - monotonic()))
        self._check()
        return bool(unacknowledged == 0)

    def _hand_over(self, deadline: float) -> bool:
        """Send what waits; return whether that is all of it."""
        self._check()
        while self._waiting:
            topic, value, key, to, headers = self._waiting[0]
            try:
                self._producer.produce(topic, value, key, to, headers=headers)
            except BufferError:
                if monotonic() >= deadline:
                    return False
                self._producer.poll(max(0.0, min(SLICE_SECONDS, deadline - monotonic())))
                self._check()
            except KafkaException as error:
                raise _undelivered(error.args[0]) from None
            else:
                self._waiting.popleft()
        return True

    def _on_failure(self, error: KafkaError | None, _message: Message) -> None:
        self._failure = self._failure or error

    def _on_error(self, error: KafkaError) -> None:
        self._refusal(error)
        if error.fatal():
            self._failure = self._failure or error

    def _check(self) -> None:
        if self._failure is not None:
            raise _undelivered(self._failure)

    def close(self) -> None:
        if self._producer is not None:
            self._producer.purge(blocking=False)
            self._producer = None  # the last reference: its end disconnects; its own close() would wait for a broker


def _undelivered(error: KafkaError) -> DeliveryError | BrokerError:
    if error.code() in _REFUSED:
        return BrokerError(f"records were not acknowledged: {_reason(error)}: check the rights of the `kafka:` section")
    return DeliveryError(f"records were not acknowledged: {error.name()}: {_reason(error)}")


class LibrdkafkaAdmin:
    """See clients.Admin."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._refusal = _Refusal(config)
        settings = _settings(config, {}) | {"error_cb": self._refusal}
        self._admin: Any = _built(config, AdminClient, settings)
        self._refusal.connect(self._admin)

    def describe(self, name: str) -> TopicState | None:
        self._admin.poll(0)  # has the errors told aside heard, and forgotten
        asked = confluent_kafka.TopicCollection([name])
        try:
            with _explained(self._config):
                (future,) = self._admin.describe_topics(asked, request_timeout=REQUEST_SECONDS).values()
                topic = future.result()
        except BrokerAwayError as error:
            if isinstance(error.__context__, KafkaException) and error.__context__.args[0].code() in _NO_TOPIC:
                return None
            raise
        return TopicState(_topic_id(topic.topic_id), len(topic.partitions))

    def settings(self, name: str) -> Mapping[str, str]:
        asked = [ConfigResource(ConfigResource.Type.TOPIC, name)]
        with _explained(self._config):
            (future,) = self._admin.describe_configs(asked, request_timeout=REQUEST_SECONDS).values()
            return {setting.name: setting.value for setting in future.result().values()}

    def create(self, topic: Topic) -> None:
        settings = {name: _text(value) for name, value in topic.settings.items()}
        wanted = NewTopic(topic.name, topic.partitions, topic.replication, config=settings)
        with _explained(self._config):
            (future,) = self._admin.create_topics(
                [wanted], operation_timeout=REQUEST_SECONDS, request_timeout=REQUEST_SECONDS + 1
            ).values()
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() in _CREATION_REFUSED:
                    described = {"partitions": topic.partitions, "replication": topic.replication, "settings": settings}
                    message = f"topic {topic.name!r} cannot be created with {described}: {_reason(error.args[0])}"
                    raise TopicError(message) from None
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
        self._wait_until_usable(topic.name)

    def _wait_until_usable(self, name: str) -> None:
        """Wait until every broker that answers knows the topic and the leaders of its partitions."""
        deadline = monotonic() + REQUEST_SECONDS
        while True:
            with _explained(self._config):
                topic = self._admin.list_topics(name, timeout=max(0.0, deadline - monotonic())).topics[name]
            if topic.error is None and all(partition.leader >= 0 for partition in topic.partitions.values()):
                return
            if monotonic() >= deadline:
                message = f"topic {name!r} was created, but it has no leaders yet"
                raise BrokerAwayError(message)
            sleep(SLICE_SECONDS)

    def delete(self, names: Sequence[str]) -> None:
        with _explained(self._config):
            futures = self._admin.delete_topics(
                list(names), operation_timeout=REQUEST_SECONDS, request_timeout=REQUEST_SECONDS + 1
            )
            for future in futures.values():
                try:
                    future.result()
                except KafkaException as error:
                    if error.args[0].code() not in _NO_TOPIC:
                        raise

    def lag(self, group: str, topic: str) -> int:
        state = self.describe(topic)
        asked = [TopicPartition(topic, partition) for partition in range(state.partitions if state else 0)]
        if not asked:
            return 0
        of_group = [confluent_kafka.ConsumerGroupTopicPartitions(group, asked)]
        with _explained(self._config):
            (future,) = self._admin.list_consumer_group_offsets(of_group, request_timeout=REQUEST_SECONDS).values()
            committed = {answer.partition: max(0, answer.offset) for answer in future.result().topic_partitions}
            ends = self._admin.list_offsets(dict.fromkeys(asked, OffsetSpec.latest()), request_timeout=REQUEST_SECONDS)
            return sum(end.result().offset - committed.get(tp.partition, 0) for tp, end in ends.items())

    def close(self) -> None:
        self._admin = None  # the last reference: its end disconnects


_NO_TOPIC = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}
_CREATION_REFUSED = {
    KafkaError.INVALID_REPLICATION_FACTOR,
    KafkaError.INVALID_PARTITIONS,
    KafkaError.INVALID_CONFIG,
    KafkaError.POLICY_VIOLATION,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError._INVALID_ARG,
}

make_consumer = LibrdkafkaConsumer
make_producer = LibrdkafkaProducer
make_admin = LibrdkafkaAdmin


def _topic_id(uuid: Any) -> str:
    """The id as other clients write it; librdkafka has it as two signed halves, 0 where brokers have no ids."""
    if uuid is None:
        return ""
    mask = (1 << 64) - 1
    number = (uuid.get_most_significant_bits() & mask) << 64 | uuid.get_least_significant_bits() & mask
    return str(UUID(int=number)) if number else ""


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
