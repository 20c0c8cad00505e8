"""Checks of a configuration beyond the types of its keys."""

import math
import re
from ipaddress import IPv6Address
from zoneinfo import ZoneInfo

from unique_users.config.schema import NAME, NAME_LENGTH_MAX, PATTERNS, Config
from unique_users.errors import UsageError
from unique_users.event_time.buckets import MINUTE
from unique_users.messages.fields import RECORD_KEY, RECORD_TIME

_SETTING = re.compile(r"[A-Za-z][A-Za-z0-9_.]*", re.ASCII)


def check_kafka_names(section: object, path: str) -> None:
    """Check that names are names: to YAML, `{password:secret}` is one name. Raises UsageError."""
    if isinstance(section, dict) and not all(isinstance(name, str) and _SETTING.fullmatch(name) for name in section):
        message = (
            f"{path}: kafka: a key has characters other than letters, digits, `_` and `.`:"
            " write `name: value`, with a space after the colon"
        )
        raise UsageError(message)


def check(config: Config, path: str) -> None:
    """Check the whole configuration of the file `path`. Raises UsageError."""
    _check_servers(config, path)
    _check_kafka_values(config, path)
    _check_retention(config, path)
    _check_fields(config, path)
    _check_topics(config, path)
    _check_intervals(config, path)


def _check_servers(config: Config, path: str) -> None:
    servers = config.kafka.get("bootstrap_servers", config.kafka.get("bootstrap.servers"))
    texts = servers.split(",") if isinstance(servers, str) else servers
    if not texts or not isinstance(texts, list) or not all(_is_address(text) for text in texts):
        message = (
            f"{path}: kafka.bootstrap_servers: expected host:port, or several separated by commas,"
            " without a user or password"
        )
        raise UsageError(message)
    config.kafka["bootstrap_servers"] = [text.strip() for text in texts]
    config.kafka.pop("bootstrap.servers", None)


_UNFIT = re.compile(r"[\x00\ud800-\udfff]")


def _check_kafka_values(config: Config, path: str) -> None:
    """Reject values that no client accepts and that would end in a traceback."""
    for name, value in config.kafka.items():
        if isinstance(value, float) and not math.isfinite(value):
            message = f"{path}: kafka.{name}: expected a finite number"
            raise UsageError(message)
        if isinstance(value, str) and _UNFIT.search(value):
            message = f"{path}: kafka.{name}: expected a string without NUL bytes or unpaired surrogates"
            raise UsageError(message)


def _check_retention(config: Config, path: str) -> None:
    """The counter must keep every minute for which the bucketer still accepts frames."""
    lets_in, keeps = config.bucketer.allowed_lateness_seconds, config.counter.retention_seconds
    if keeps and (not lets_in or keeps < lets_in):
        message = (
            f"{path}: counter.retention_seconds: expected 0 (never) or at least bucketer.allowed_lateness_seconds"
            f" ({lets_in}), got {keeps}"
        )
        raise UsageError(message)


FIELDS_MAX = 10
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


def _check_fields(config: Config, path: str) -> None:
    frame = config.frame
    uid, ts = ([names] if isinstance(names, str) else names for names in (frame.uid, frame.ts))
    for key, names in (("frame.uid", uid), ("frame.ts", ts)):
        if not 0 < len(names) <= FIELDS_MAX or not all(
            re.search(NAME, name) and len(name) <= NAME_LENGTH_MAX for name in names
        ):
            shown = f"{names if len(names) != 1 else names[0]!r:.60}"
            message = f"{path}: {key}: expected {PATTERNS[NAME]}, or a list of up to {FIELDS_MAX} of them, got {shown}"
            raise UsageError(message)
    if RECORD_TIME in uid or RECORD_KEY in ts:
        message = f"{path}: frame: {RECORD_KEY} may stand for frame.uid alone, and {RECORD_TIME} for frame.ts"
        raise UsageError(message)
    for name in uid:
        if name in ts or uid.count(name) > 1:
            message = f"{path}: frame.uid, frame.ts: expected different fields, got {name!r} twice"
            raise UsageError(message)
    for name in ts:
        if ts.count(name) > 1:
            message = f"{path}: frame.ts: expected different fields, got {name!r} twice"
            raise UsageError(message)
    if frame.timezone is not None:
        _check_zone("frame.timezone", frame.timezone, path)


def _check_topics(config: Config, path: str) -> None:
    topics = config.topics
    names = [topic.name for topic in (topics.feed, topics.bucketed, topics.counts, topics.rejected)]
    for name in names:
        if names.count(name) > 1:
            message = f"{path}: topics: expected four different names, got {name!r} twice"
            raise UsageError(message)


def _check_intervals(config: Config, path: str) -> None:
    intervals, timezone = config.counter.intervals, config.counter.timezone
    for name in intervals:
        if intervals.count(name) > 1:
            message = f"{path}: counter.intervals: expected each interval once, got {name!r} twice"
            raise UsageError(message)
    for name in config.counter.estimates:
        if name == MINUTE.name or name not in intervals or config.counter.estimates.count(name) > 1:
            message = (
                f"{path}: counter.estimates: expected some of counter.intervals, each once and never the minute,"
                f" got {name!r}"
            )
            raise UsageError(message)
    _check_zone("counter.timezone", timezone, path)
    if reason := wrong_layout(config, config.topics.bucketed.partitions):
        message = f"{path}: {reason}"
        raise UsageError(message)


def _check_zone(key: str, timezone: str, path: str) -> None:
    try:
        ZoneInfo(timezone)
    except (ValueError, OSError, KeyError):
        message = f"{path}: {key}: expected a zone like UTC or Europe/Berlin, got {timezone!r}"
        raise UsageError(message) from None


def wrong_layout(config: Config, partitions: int) -> str | None:
    """Why the configured intervals would be miscounted over this many partitions of bucketed; None if not."""
    wide = [name for name in config.counter.intervals if name != MINUTE.name]
    if partitions == 1 or config.bucketer.partition_by == "uid" or not wide:
        return None
    return (
        f"counter.intervals: with bucketer.partition_by: bucket and {partitions} partitions of"
        f" {config.topics.bucketed.name!r}, the minutes of one {wide[0]} stand in several partitions, and a user would"
        " be counted in each of them: set bucketer.partition_by: uid with a new topic, or use one partition"
    )
