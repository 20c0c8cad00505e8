"""The settings of kafka-python: ours below the user's, whose names and values are checked here."""

import math
from collections.abc import Mapping
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from unique_users.clients.kafka_python import aws_msk as msk
from unique_users.clients.kafka_python.oauth import TokenProvider
from unique_users.clients.oauth import OURS as OAUTH
from unique_users.clients.oauth import tokens_of
from unique_users.clients.protocols import REQUEST_BYTES_MAX, REQUEST_SECONDS
from unique_users.config.complaints import meant
from unique_users.config.schema import Config
from unique_users.errors import UsageError

BOOTSTRAP_SECONDS = 2.0  # one attempt to reach the broker; callers retry
METADATA_SECONDS = 5  # until a client sees that a topic was recreated or has grown: the default is five minutes
POLL_RECORDS_MAX = 5_000

_CLIENT: dict[str, Any] = {
    "bootstrap_timeout_ms": BOOTSTRAP_SECONDS * 1000,
    "reconnect_backoff_max_ms": 1_000,  # the broker is often a local one that restarts
    "metadata_max_age_ms": METADATA_SECONDS * 1000,
}
CONSUMER: dict[str, Any] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "isolation_level": "read_committed",
    "max_poll_records": POLL_RECORDS_MAX,
    "max_partition_fetch_bytes": 4 * 1024 * 1024,
    "fetch_max_bytes": 16 * 1024 * 1024,
    "metrics_enabled": False,
    # Members learn from a heartbeat that one has joined or left, and read nothing until all know: the default is 3 s.
    "heartbeat_interval_ms": 1_000,
}
# Topics that are read without a group are small, and so is the process that reads them.
READER = {"max_partition_fetch_bytes": 512 * 1024, "fetch_max_bytes": 2 * 1024 * 1024}
PRODUCER: dict[str, Any] = {
    "acks": "all",
    "batch_size": 1_000_000,  # uncompressed, and just below a topic's default limit
    "linger_ms": 0,  # records come in columns, as many as there are, and more gather while a batch is in flight
    "max_request_size": REQUEST_BYTES_MAX,
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
    "delivery_timeout_ms": 24 * 3600 * 1000,  # wait for a broker that is away; the loops say so
    "max_block_ms": REQUEST_SECONDS * 1000,
}
# Without these a count could be wrong: a release that does not know one is refused; other settings are left out.
REQUIRED = {"acks", "auto_offset_reset", "enable_auto_commit", "isolation_level"}
# Strings without a default to tell their type; as a number, one would lose its leading zeros.
_TEXTS = {"sasl_plain_username", "sasl_plain_password", "ssl_password", "group_instance_id", "client_rack"}
_KNOWN = {*KafkaConsumer.DEFAULT_CONFIG, *KafkaProducer.DEFAULT_CONFIG, *KafkaAdminClient.DEFAULT_CONFIG}


def settings_of(config: Config, own: Mapping[str, Any], takes: Mapping[str, Any]) -> dict[str, Any]:
    """Our settings below the user's `kafka:` section; each client gets the names it takes.

    Names may be written with dots, as in other clients; strings from the environment become numbers if the client's
    default is one.
    """
    ours = {**_CLIENT, **own}
    if unknown := sorted(REQUIRED & ours.keys() - takes.keys()):
        raise UsageError(
            f"this release of kafka-python has no setting {unknown[0]!r}, which exact counts need: install the release"
            " that pyproject.toml names"
        )
    settings = {name: value for name, value in ours.items() if name in takes}
    tokens = tokens_of(config.kafka)
    if tokens is not None:
        settings["sasl_oauth_token_provider"] = TokenProvider(tokens)
    for dotted, given in config.kafka.items():
        name = dotted.replace(".", "_")
        if name in OAUTH and tokens is not None:
            continue
        if name not in _KNOWN:
            raise UsageError(f"kafka.{dotted}: kafka-python has no such setting{meant(name, _KNOWN)}")
        if name == "bootstrap_servers":
            settings[name] = given
        elif name in takes:
            settings[name] = _typed(given, takes[name], dotted)
    if settings.get("sasl_mechanism") == msk.MECHANISM:
        msk.check_iam(settings.get("security_protocol"))
    return settings


def _typed(given: Any, default: Any, name: str) -> Any:
    """The value in the type of its default. Raises UsageError, which never holds the value."""
    if isinstance(default, bool):
        return _flag(given, name)
    if isinstance(default, int | float):
        return _number(given, name)
    if (isinstance(default, str) or name.replace(".", "_") in _TEXTS) and not isinstance(given, str | None):
        raise UsageError(f"kafka.{name}: expected a string: put it in quotes")
    return given


def _flag(given: Any, name: str) -> bool:
    if isinstance(given, str) and given.lower() in {"true", "false"}:
        return given.lower() == "true"
    if not isinstance(given, bool):
        raise UsageError(f"kafka.{name}: expected true or false")
    return given


def _number(given: Any, name: str) -> float | None:
    try:
        number = given
        if isinstance(given, str):
            number = float(given) if "." in given else int(given)
        if number is None or (not isinstance(number, bool) and math.isfinite(number)):
            return number
    except (ValueError, TypeError, OverflowError):
        pass
    raise UsageError(f"kafka.{name}: expected a number")
