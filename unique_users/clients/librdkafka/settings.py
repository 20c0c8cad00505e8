"""The settings of librdkafka: ours below the user's, whose names and values are checked here."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from confluent_kafka import KafkaException

from unique_users.clients.librdkafka.errors import reason
from unique_users.clients.oauth import tokens_of
from unique_users.clients.protocols import REQUEST_BYTES_MAX
from unique_users.config.complaints import meant
from unique_users.config.schema import Config
from unique_users.config.secrets import without_values
from unique_users.errors import UsageError

SLICE_SECONDS = 0.1  # the longest that a rebalance waits until poll reports it
IN_FLIGHT_KBYTES_MAX = 32 * 1024
IN_FLIGHT_RECORDS_MAX = 100_000  # each costs librdkafka about 200 bytes on top of its own

_CLIENT: dict[str, Any] = {
    "log_level": 0,  # it logs every attempt to reach a broker; the loops say once what matters
    "reconnect.backoff.max.ms": 1_000,  # the broker is often a local one that restarts
    "allow.auto.create.topics": False,
    # Until a client sees that a topic was recreated or has grown: the default is five minutes.
    "topic.metadata.refresh.interval.ms": 5_000,
}
CONSUMER: dict[str, Any] = {
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",
    "partition.assignment.strategy": "cooperative-sticky",
    "heartbeat.interval.ms": 1_000,  # members learn from one that another has joined or left: the default is 3 s
    "check.crcs": True,  # off by default, but a damaged record must not be counted
    # What is fetched ahead, instead of 64 MiB: less cost nothing when measured.
    "queued.max.messages.kbytes": 16 * 1024,
    "queued.min.messages": 5000,
    # With a full queue the fetcher sleeps this long; with its default of 1 s the reader waits for it.
    "fetch.queue.backoff.ms": 5,
    # A connection answers in order, so a request waits for the fetch before it; new records end a fetch at once.
    "fetch.wait.max.ms": 100,
    # A fetch is measured as sent over the network: it may unpack to ten times as much.
    "fetch.message.max.bytes": 1024 * 1024,
    "fetch.max.bytes": 16 * 1024 * 1024,
}
# Topics that are read without a group are small, and so is the process that reads them.
READER = {"queued.max.messages.kbytes": 2 * 1024, "fetch.message.max.bytes": 512 * 1024}
# What a consumer that joins no group does not need.
OF_GROUPS = ("group.instance.id", "group.protocol", "group.remote.assignor", "partition.assignment.strategy")
PRODUCER: dict[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,  # order and no duplicates within a producer, while several batches are in flight
    "partitioner": "murmur2_random",  # as in Kafka's own clients; librdkafka's default is another hash
    "linger.ms": 50,
    "batch.size": 1_000_000,  # uncompressed, and just below a topic's default limit
    "batch.num.messages": 50_000,  # batch.size decides
    "queue.buffering.max.kbytes": IN_FLIGHT_KBYTES_MAX,
    "queue.buffering.max.messages": IN_FLIGHT_RECORDS_MAX,
    "statistics.interval.ms": 5_000,  # reveals records that do not leave: see stall_detection.py
    "message.max.bytes": REQUEST_BYTES_MAX,
    "message.timeout.ms": 24 * 3600 * 1000,  # wait for a broker that is away; the loops say so
}

# Names of kafka-python, with dots, that differ in librdkafka.
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
    "metadata.max.age.ms": "topic.metadata.refresh.interval.ms",  # its own of that name only limits a cache
}
# Names to suggest for an unknown one: librdkafka does not list its own.
_KNOWN = {
    *_CLIENT,
    *CONSUMER,
    *PRODUCER,
    *_RENAMED.values(),
    *("bootstrap.servers", "security.protocol", "sasl.mechanism", "client.id", "client.rack", "group.instance.id"),
    *("session.timeout.ms", "max.poll.interval.ms", "socket.timeout.ms", "request.timeout.ms", "retry.backoff.ms"),
    *("reconnect.backoff.ms", "ssl.ca.pem", "enable.ssl.certificate.verification", "group.protocol", "debug"),
}


def settings_of(config: Config, own: Mapping[str, Any]) -> dict[str, Any]:
    """Our settings below the user's `kafka:` section, which may use the names of kafka-python."""
    tokens_of(config.kafka)  # the client fetches its own, but does not say why it cannot
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
    return {
        name: as_text(value) if isinstance(value, bool | int | float) else value for name, value in settings.items()
    }


def _native(name: str) -> str:
    dotted = name.replace("_", ".")
    return _RENAMED.get(dotted, dotted)


Built = TypeVar("Built")

_UNKNOWN = re.compile(r'No such configuration property: "([^"]+)"')
_BAD_VALUE = re.compile(r'onfiguration property "([^"]+)"(?: value \S+ is outside (?:the )?allowed range (\S+))?')


def built(config: Config, build: Callable[[dict[str, Any]], Built], settings: dict[str, Any]) -> Built:
    """The client that `build` makes from the settings. An error names the key and never the value: some are secrets."""
    given = {_native(name): name for name in config.kafka}
    try:
        return build(settings)
    except (KafkaException, AttributeError, OverflowError, TypeError, ValueError) as error:
        text = reason(error.args[0]) if isinstance(error, KafkaException) else str(error)
    if (match := _UNKNOWN.search(text)) and match[1] in settings:
        near = meant(match[1], _KNOWN)
        raise UsageError(f"kafka.{given.get(match[1], match[1])}: librdkafka has no such setting{near}")
    if match := _BAD_VALUE.search(text):
        expected = f", expected {match[2]}" if match[2] else ""
        raise UsageError(f"kafka.{given.get(match[1], match[1])}: librdkafka does not accept this value{expected}")
    raise UsageError(f"kafka: librdkafka does not accept these settings: {without_values(text, config.kafka)}")


def as_text(value: object) -> str:
    """A setting as Kafka writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
