"""The only place that chooses a Kafka client, and waits for a broker."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, TypeVar

from unique_users.clients.protocols import Admin, Consumer, Producer, RecordLookup
from unique_users.clients.silence import found_out, why_silent
from unique_users.clients.tls import explain_silence
from unique_users.config.schema import Config
from unique_users.config.secrets import without_values
from unique_users.errors import BrokerAwayError, TopicError, UsageError
from unique_users.runtime.heartbeat import alive
from unique_users.runtime.signals import Stop
from unique_users.runtime.waits import Wait

_log = logging.getLogger(__name__)


def get_consumer(config: Config, topic: str, group: str, *, fewer_fetches: bool = False) -> Consumer:
    """A consumer of `topic` in the consumer group `group`. Raises BrokerAwayError, BrokerError, UsageError.

    With `fewer_fetches`, for expensive polls, the broker may hold records back until there are more (fetch.min.bytes,
    fetch.max.wait), a quarter of a second at most.
    """

    def make(client: Any) -> Consumer:
        made: Consumer = client.make_consumer(config, topic, group, fewer_fetches=fewer_fetches)
        return made

    consumer: Consumer = _reached(config, make)
    return consumer


def get_reader(config: Config, topic: str, group: str | None = None) -> Consumer:
    """A consumer that reads all partitions of an existing topic and joins no group. Raises as `get_consumer` does.

    Its first poll assigns it all of them. It fetches less ahead than other consumers, because such topics are small.
    With `group`, it can commit and read commits in the name of that group, which must have no members.
    """

    def make(client: Any) -> Consumer:
        made: Consumer = client.make_consumer(config, topic, group, alone=True)
        return made

    consumer: Consumer = _reached(config, make)
    return consumer


def get_producer(config: Config, compression: str = "none", batch_bytes_max: int | None = None) -> Producer:
    """A producer. Raises BrokerAwayError, BrokerError, UsageError.

    `batch_bytes_max` is the topic's limit: records are batched up to it, and larger ones are sent alone.
    """
    producer: Producer = _reached(config, lambda client: client.make_producer(config, compression, batch_bytes_max))
    return producer


def get_admin(config: Config) -> Admin:
    """An admin client. Raises BrokerAwayError, BrokerError, UsageError."""
    admin: Admin = _reached(config, lambda client: client.make_admin(config))
    return admin


def get_record_lookup(config: Config, topic: str) -> RecordLookup:
    """A reader of single records of `topic`. Raises BrokerAwayError, BrokerError, UsageError."""
    lookup: RecordLookup = _reached(config, lambda client: client.make_record_lookup(config, topic))
    return lookup


def damaged(topic: str, partition: int, offset: int) -> TopicError:
    """The error for a batch with a wrong checksum: what was stored is not what its producer sent."""
    return TopicError(
        f"{topic}-{partition}: the batch at offset {offset} is damaged, its checksum is wrong: restore this partition"
        " from another replica, or skip the batch as docs/operations.md says"
    )


def _reached(config: Config, make: Callable[[Any], Any]) -> Any:
    """Call `make` with the configured client, and explain why if a broker only seems to be away."""
    client = _chosen(config)
    try:
        return make(client)
    except BrokerAwayError:
        explain_silence(config)
        raise
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        if config.kafka.keys() == {"bootstrap_servers"}:
            raise  # none of the user's settings can be the cause
        said = without_values(f"{type(error).__name__}: {error}", config.kafka)
        raise UsageError(f"kafka: {config.client} does not accept these settings: {said}") from None


def _chosen(config: Config) -> Any:
    """The module of the configured client; the others need not be installed."""
    try:
        return import_module(f"unique_users.clients.{config.client.replace('-', '_')}")
    except ModuleNotFoundError as error:
        if error.name != "confluent_kafka":
            raise
        how = f"pip install 'unique-users[{config.client}]'"
        raise UsageError(f"client: {config.client} needs the package confluent-kafka: {how}") from None


Built = TypeVar("Built")

RETRY_SECONDS = 1.0


@contextmanager
def leaving_on_error(consumer: Consumer) -> Iterator[None]:
    """Have a consumer leave its group when an error ends the process: others would wait for its session to expire."""
    try:
        yield
    except BaseException:
        with suppress(Exception):  # the first error is the one to report
            consumer.close()
        raise


def lag(consumer: Consumer, positions: Mapping[int, int], timeout_seconds: float = 0.9) -> int | None:
    """Records from `positions` to the ends of these partitions; None if the broker does not answer in time.

    Also None if a topic ends before a position, because it is then not the topic that was read. Asks the broker even if
    there are no positions, so that a silent one is noticed.
    """
    try:
        ends = consumer.high_watermark_offsets(positions or [0], timeout_seconds)
    except BrokerAwayError:
        return None
    left = [ends[partition] - position for partition, position in positions.items()]
    return None if min(left, default=0) < 0 else sum(left)


def in_transactions(consumer: Consumer, partitions: Iterable[int], timeout_seconds: float = 0.9) -> int:
    """How many records wait behind the start of an open transaction; 0 if the broker does not answer in time."""
    seen = consumer.seen(partitions)
    ahead = [partition for partition, each in seen.items() if each.end > each.position]
    try:
        stable = consumer.high_watermark_offsets(ahead, timeout_seconds)
    except BrokerAwayError:
        return 0
    return sum(max(0, seen[partition].end - end) for partition, end in stable.items())


def when_broker_answers(config: Config, stop: Stop, build: Callable[[], Built]) -> Built | None:
    """Return what `build` makes, retrying while no broker answers; None if a stop is requested first.

    Logs what it waits for and why, at once and then each minute, and says when the wait is over.
    """
    wait = Wait(_log, f"waiting for a Kafka broker at {', '.join(config.bootstrap_servers)}", stop.monotonic)
    while not stop.requested:
        alive()
        try:
            built = build()
        except BrokerAwayError as error:
            said = str(error)
            wait.goes_on(lambda: reason_for_silence(config, stop) or said)  # noqa: B023 - asked at once
            stop.wait(RETRY_SECONDS)
        else:
            wait.end("the broker answers, going on")
            return built
    return None


def reason_for_silence(config: Config, stop: Stop) -> str | None:
    """Why no broker answers, found out within seconds; None if that cannot be determined or a stop is requested."""
    return found_out(lambda: why_silent(config, _admin_of), stop)


@contextmanager
def saying_why_silent(config: Config) -> Iterator[None]:
    """For commands that do not wait: an error about a broker that is away says why, as the scripts do."""
    try:
        yield
    except BrokerAwayError:
        if why := why_silent(config, _admin_of):
            raise BrokerAwayError(f"no Kafka broker at {', '.join(config.bootstrap_servers)}: {why}") from None
        raise


def _admin_of(config: Config) -> Admin:
    """An admin client that does not look for the reason when no broker answers. Raises BrokerAwayError, BrokerError."""
    admin: Admin = _chosen(config).make_admin(config)
    return admin
