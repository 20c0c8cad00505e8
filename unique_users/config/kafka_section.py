"""The `kafka:` section: its settings go to the client, except those that would not do what they say."""

import difflib
import math
import re
from ipaddress import IPv6Address

from unique_users.config.places import Places
from unique_users.config.schema import Config
from unique_users.errors import UsageError

_SETTING = re.compile(r"[A-Za-z][A-Za-z0-9_.]*", re.ASCII)
_SERVERS = "bootstrap_servers"
_ALIKE = 0.85  # from here up, a name is taken for a misspelt `bootstrap_servers`

_COMMITS = "the scripts commit themselves, see bucketer.commit_seconds and counter.save_seconds"
_BYTES = "records are bytes here, and frame: says how they are read"
# What this program sets itself: in a configuration, it would be ignored or make counts wrong.
OURS = {
    "auto_offset_reset": "use bucketer.start: earliest, latest or a time",
    "group_id": "each script has its own group, see bucketer.group and counter.group",
    "enable_auto_commit": _COMMITS,
    "auto_commit_enable": _COMMITS,
    "auto_commit_interval_ms": _COMMITS,
    "enable_auto_offset_store": _COMMITS,
    "offset_store_method": _COMMITS,
    "default_offset_commit_callback": _COMMITS,
    "key_deserializer": _BYTES,
    "value_deserializer": _BYTES,
    "key_serializer": _BYTES,
    "value_serializer": _BYTES,
    "compression_type": "use producer.compression",
    "compression_codec": "use producer.compression",
    "partitioner": "use bucketer.partition_by",
    "transactional_id": "counts are exact without transactions, see docs/design.md",
    "enable_partition_eof": "the scripts ask the broker how far they are",
    "metadata_broker_list": "use kafka.bootstrap_servers",
}
_OF_PROGRAMS = re.compile(r"\w+_(?:cb|callback)|on_\w+")


def normal(name: str) -> str:
    """A setting's name as kafka-python writes it; it may be given with dots."""
    return name.replace(".", "_")


def check_kafka_names(section: object, places: Places) -> None:
    """Check that names are names: for YAML, `{password:secret}` is one name. Raises UsageError."""
    if isinstance(section, dict) and not all(isinstance(name, str) and _SETTING.fullmatch(name) for name in section):
        message = (
            f"{places.of('kafka')}: kafka: a key has characters other than letters, digits, `_` and `.`:"
            " write `name: value`, with a space after the colon"
        )
        raise UsageError(message)


def check_kafka_section(config: Config, places: Places) -> None:
    """Check the section, and bring the brokers' addresses into one form. Raises UsageError."""
    _check_names(config, places)
    _check_servers(config, places)
    _check_values(config, places)


def _check_names(config: Config, places: Places) -> None:
    """Refuse what would be ignored, is set twice, or looks like a misspelt `bootstrap_servers`."""
    seen: dict[str, str] = {}
    for name in config.kafka:
        known = normal(name)
        if known in OURS:
            raise places.wrong(f"kafka.{name}", f"is set by this program: {OURS[known]}")
        if _OF_PROGRAMS.fullmatch(known):
            raise places.wrong(f"kafka.{name}", "takes a function, which a configuration cannot hold: leave it out")
        if known in seen:
            raise places.wrong(f"kafka.{name}", f"is the same setting as kafka.{seen[known]}: leave one of them out")
        if known != _SERVERS and difflib.SequenceMatcher(None, known, _SERVERS).ratio() >= _ALIKE:
            raise places.wrong(f"kafka.{name}", f"unknown key: did you mean {_SERVERS!r}?")
        seen[known] = name


def _check_servers(config: Config, places: Places) -> None:
    servers = config.kafka.get(_SERVERS, config.kafka.get("bootstrap.servers"))
    texts = servers.split(",") if isinstance(servers, str) else servers
    if not texts or not isinstance(texts, list) or not all(_is_address(text) for text in texts):
        said = "expected host:port, or several separated by commas, without a user or password"
        raise places.wrong("kafka.bootstrap_servers", said)
    config.kafka[_SERVERS] = [text.strip() for text in texts]
    config.kafka.pop("bootstrap.servers", None)


_UNFIT = re.compile(r"[\x00\ud800-\udfff]")


def _check_values(config: Config, places: Places) -> None:
    """Refuse values that no client accepts and that would end in a traceback."""
    for name, value in config.kafka.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise places.wrong(f"kafka.{name}", "expected a finite number")
        if isinstance(value, str) and _UNFIT.search(value):
            raise places.wrong(f"kafka.{name}", "expected a string without NUL bytes or unpaired surrogates")


_ADDRESS = re.compile(r"\s*(?:\[(?P<ipv6>[0-9a-fA-F:]+)\]|(?P<name>[\w.-]+)):(?P<port>[0-9]{1,5})\s*")
PORT_MAX = 65_535


def _is_address(text: object) -> bool:
    match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if match is None or not 0 < int(match["port"]) <= PORT_MAX:
        return False
    try:
        if match["ipv6"]:
            IPv6Address(match["ipv6"])
        else:
            match["name"].encode("idna")  # as a lookup does first
    except ValueError:
        return False
    return True
