"""Translates errors of librdkafka into our own. Some are reported only by callback, and are collected here."""
# ruff: noqa: SLF001  # librdkafka's names of errors that no broker sent begin with an underscore

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from unique_users.clients.protocols import FENCED
from unique_users.config.schema import Config
from unique_users.config.secrets import without_values
from unique_users.errors import BrokerAwayError, BrokerError

BOOTSTRAP_SECONDS = 2.0  # one attempt to reach the broker; callers retry


def reason(error: KafkaError) -> str:
    """The message of librdkafka for an error, on one line."""
    return " ".join(error.str().split())


_NO_RIGHT = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
REFUSED = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, *_NO_RIGHT}
_AWAY = {
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._DESTROY_BROKER,  # its connection was dropped, because the cluster did not name it for a moment
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
# The client knows a partition in a newer state than the broker does: the broker was restored from a copy. librdkafka
# ignores an older leader epoch and waits for a newer one; only a new client accepts the broker as it is.
OUTDATED = {KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_LEADER_EPOCH}
REBALANCING = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.STALE_MEMBER_EPOCH,
    KafkaError.FENCED_MEMBER_EPOCH,
    KafkaError._ASSIGNMENT_LOST,
}


def explained_error(config: Config, error: KafkaError) -> BrokerError:
    """Our error for the client's. Never holds a setting except the address."""
    servers = ", ".join(config.bootstrap_servers)
    said = without_values(reason(error), config.kafka)
    if error.code() in {KafkaError.FENCED_INSTANCE_ID, KafkaError._FATAL} and "group.instance.id" in error.str():
        return BrokerError(FENCED)
    if _hung_up(error):
        return BrokerAwayError(f"no answer from the broker at {servers} ({error.name()})")
    if error.code() in REFUSED:
        fix = "rights" if error.code() in _NO_RIGHT else _wrong_login(error.str())
        return BrokerError(f"the broker at {servers} refuses: {said}: check the {fix} of the `kafka:` section")
    if error.code() in _AWAY or error.retriable():
        return BrokerAwayError(f"no answer from the broker at {servers} ({error.name()})")
    return BrokerError(f"the broker at {servers} answers with {error.name()}: {said}")


def _wrong_login(said: str) -> str:
    """What to change when a login fails; librdkafka has one code for all reasons."""
    if "not valid in current SASL state" in said:
        return "security_protocol, as that listener takes no login,"
    return "sasl_mechanism" if "Unsupported SASL mechanism" in said else "user and password"


def _hung_up(error: KafkaError) -> bool:
    """Whether a login failed because the broker went away meanwhile: its own refusals are not local errors."""
    return error.code() == KafkaError._AUTHENTICATION and "handshake failed: Local: " in error.str()


def code_of(error: BrokerError) -> int | None:
    """The client's code for one of our errors, or None if it has none."""
    told = kafka_error(error.__context__)
    return None if told is None else told.code()


def kafka_error(error: BaseException | None) -> KafkaError | None:
    """The client's error in an exception, or None for any other exception.

    The client raises a fatal error inside a callback, and continues: Python then makes it the cause of a SystemError.
    """
    cause = error.__cause__ if isinstance(error, SystemError) else error
    return cause.args[0] if isinstance(cause, KafkaException) else None


@contextmanager
def explained(config: Config) -> Iterator[None]:
    """Turn the client's errors into ours."""
    try:
        yield
    except (KafkaException, SystemError) as error:
        if (told := kafka_error(error)) is None:
            raise
        raise explained_error(config, told) from None


class Refusal:
    """Collects the errors that the client reports by callback, and keeps the one that waiting does not fix."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._error: KafkaError | None = None
        self._tls: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        if (error.code() in REFUSED and not _hung_up(error)) or error.fatal():
            self._error = error
        elif error.code() == KafkaError._SSL:
            self._tls = error

    def check(self) -> None:
        """Raise BrokerError if there is such an error."""
        if self._error is not None:
            raise explained_error(self._config, self._error)

    def connect(self, client: Any) -> None:
        """Wait until a broker answers: creating a client does not. Raises BrokerAwayError, BrokerError."""
        try:
            with explained(self._config):
                # Any name will do, even of a missing topic: asking for all would take long on a large cluster.
                client.list_topics("__consumer_offsets", timeout=BOOTSTRAP_SECONDS)
        except BrokerAwayError:
            client.poll(0)  # runs the callback
            self.check()
            if self._tls is not None:
                raise explained_error(self._config, self._tls) from None
            raise
