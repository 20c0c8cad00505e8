"""The configuration: every key with its type and default, read once from YAML and checked as a whole.

The defaults here and the values in `config.yaml` are the same; a test keeps them so. Values may hold
`${NAME}` and `${NAME:-default}` from the environment.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
import yaml
from msgspec import Meta

from unique_users.buckets import MINUTE, IntervalName
from unique_users.errors import UsageError
from unique_users.estimates import sketch_class

Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(min_length=1)]
TopicName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
Scalar = str | int | float | bool


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section of the file: unknown keys are errors."""


class Topic(Section, frozen=True, kw_only=True):
    """A topic, and how it is created when it is missing."""

    name: TopicName
    partitions: Count = 1
    replication: Annotated[int, Meta(ge=-1)] = 1
    settings: dict[str, Scalar] = msgspec.field(default_factory=dict)


# A frame up to the limit of `frame.bytes_max` is judged by the bucketer; Kafka has to carry more than that for an
# oversized one to reach `rejected` whole. Lines above this are cut, see replay.py.
_CARRIES_LARGE_FRAMES: dict[str, Scalar] = {"max.message.bytes": 8_388_608}
_KEEPS_THE_LAST_VALUE: dict[str, Scalar] = {"cleanup.policy": "compact"}


class FeedTopic(Topic, frozen=True, kw_only=True):
    """The frames."""

    name: TopicName = "feed"
    settings: dict[str, Scalar] = msgspec.field(default_factory=_CARRIES_LARGE_FRAMES.copy)


class BucketedTopic(Topic, frozen=True, kw_only=True):
    """One record for each accepted frame."""

    name: TopicName = "bucketed"


class CountsTopic(Topic, frozen=True, kw_only=True):
    """The counts."""

    name: TopicName = "counts"
    settings: dict[str, Scalar] = msgspec.field(default_factory=_KEEPS_THE_LAST_VALUE.copy)


class RejectedTopic(Topic, frozen=True, kw_only=True):
    """What is no frame."""

    name: TopicName = "rejected"
    settings: dict[str, Scalar] = msgspec.field(default_factory=_CARRIES_LARGE_FRAMES.copy)


class Topics(Section, frozen=True, kw_only=True):
    """The four topics."""

    feed: FeedTopic = FeedTopic()
    bucketed: BucketedTopic = BucketedTopic()
    counts: CountsTopic = CountsTopic()
    rejected: RejectedTopic = RejectedTopic()


class Frame(Section, frozen=True, kw_only=True):
    """Where a frame keeps its user and its time."""

    uid: Name = "uid"
    ts: Name = "ts"
    ts_unit: Literal["s", "ms"] = "s"
    bytes_max: Count = 1_048_576


class Producer(Section, frozen=True, kw_only=True):
    """producer.py."""

    file: Name = "stream.gz"
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"


class Bucketer(Section, frozen=True, kw_only=True):
    """bucketer.py."""

    group: Name = "bucketer"
    partition_by: Literal["bucket", "uid"] = "bucket"
    combine: bool = False
    retention_seconds: Annotated[int, Meta(ge=0)] = 86_400
    future_seconds_max: Annotated[int, Meta(ge=0)] = 3_600
    commit_seconds: Seconds = 1
    report_seconds: Seconds = 60


class Counter(Section, frozen=True, kw_only=True):
    """counter.py."""

    group: Name = "counter"
    report_seconds: Seconds = 60
    save_seconds: Seconds = 5
    publish_seconds: Seconds = 1
    retention_seconds: Annotated[int, Meta(ge=0)] = 172_800
    uids_in_memory_max: Count = 2_000_000
    intervals: Annotated[list[IntervalName], Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["minute"])
    estimates: list[IntervalName] = msgspec.field(default_factory=list)
    timezone: Name = "UTC"


class State(Section, frozen=True, kw_only=True):
    """Where the counter keeps its state."""

    directory: Name = "state"


class Broker(Section, frozen=True, kw_only=True):
    """The local Kafka of broker.py."""

    version: Literal["4.3.1", "2.4.0"] = "4.3.1"
    data: Name = "data"


class Config(Section, frozen=True, kw_only=True):
    """The whole file."""

    client: Literal["kafka-python", "librdkafka"] = "kafka-python"
    kafka: dict[str, Any] = msgspec.field(default_factory=lambda: {"bootstrap_servers": "localhost:9092"})
    topics: Topics = Topics()
    frame: Frame = Frame()
    producer: Producer = Producer()
    bucketer: Bucketer = Bucketer()
    counter: Counter = Counter()
    state: State = State()
    broker: Broker = Broker()

    @property
    def bootstrap_servers(self) -> list[str]:
        """The addresses in `kafka.bootstrap_servers`, each `host:port`."""
        servers: list[str] = self.kafka["bootstrap_servers"]
        return servers


def load_config(path: str, overrides: Iterable[str] = (), environment: Mapping[str, str] = os.environ) -> Config:
    """Read and check the configuration in the YAML file `path`, with `section.key=value` overrides.

    Raises UsageError with the key's path and what to do, in one line.
    """
    tree = _read(path)
    source: dict[tuple[str, ...], str] = {}
    for override in overrides:
        source[_override(tree, override)] = f"--set {override.partition('=')[0]}"
    try:
        tree = _with_environment(tree, environment, path)
    except RecursionError:
        message = f"{path}: a section holds itself through an alias: write it out"
        raise UsageError(message) from None
    try:
        config = msgspec.convert(tree, Config, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(_explained(str(error), tree, path, source)) from None
    _check_servers(config, path)
    _check_retention(config, path)
    _check_fields(config, path)
    _check_topics(config, path)
    _check_intervals(config, path)
    return config


def _read(path: str) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        message = f"{path}: no such file: give its place with --config FILE"
        raise UsageError(message) from None
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: cannot be read: {error}"
        raise UsageError(message) from None
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        message = f"{path}: expected sections like `kafka:` and `counter:`, got {tree!r:.60}"
        raise UsageError(message)
    return tree


def _override(tree: dict[str, Any], override: str) -> tuple[str, ...]:
    """Put `section.key=value` into the tree and return the key's path."""
    dotted, equals, text = override.partition("=")
    # The names below `kafka:` are the client's own and may hold dots.
    keys = tuple(dotted.split(".", 1) if dotted.startswith("kafka.") else dotted.split("."))
    if not equals or not all(keys):
        message = f"--set {override}: expected section.key=value, like --set counter.report_seconds=10"
        raise UsageError(message)
    if keys[1:] in {("bootstrap.servers",), ("bootstrap_servers",)} and keys[0] == "kafka":
        keys = ("kafka", "bootstrap_servers")
        if isinstance(tree.get("kafka"), dict):
            tree["kafka"].pop("bootstrap.servers", None)
    node = tree
    for key in keys[:-1]:
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            message = f"--set {override}: {key!r} is a value, not a section"
            raise UsageError(message)
        node = child
    try:
        node[keys[-1]] = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        node[keys[-1]] = text
    return keys


_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}")


def _with_environment(node: Any, environment: Mapping[str, str], source: str, address: str = "") -> Any:
    """Fill `${NAME}` in every text of the tree."""
    if isinstance(node, dict):
        return {
            key: _with_environment(value, environment, source, f"{address}.{key}".lstrip("."))
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_with_environment(value, environment, source, f"{address}[]") for value in node]
    if not isinstance(node, str):
        return node

    def value_of(variable: re.Match[str]) -> str:
        name, default = variable["name"], variable["default"]
        value = environment.get(name)
        if default is not None:
            return value or default.removeprefix(":-")
        if value is None:
            message = (
                f"{source}: {address}: the environment variable {name} is not set:"
                f" set it, or write ${{{name}:-default}}"
            )
            raise UsageError(message)
        return value

    return _VARIABLE.sub(value_of, node)


_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?:key` in `)?\$\.?(?P<path>[^`]*)`)?$")
_WORDS = {
    "`int`": "a whole number",
    "`float`": "a number",
    "`str`": "a text",
    "`bool`": "true or false",
    "`object`": "a section with keys",
    "`array`": "a list",
    "`null`": "nothing",
}


def _explained(message: str, tree: dict[str, Any], path: str, sources: Mapping[tuple[str, ...], str]) -> str:
    """Say msgspec's complaint with the address of the key, the value it has, and the fix."""
    match = _AT.match(message)
    what, address = (match["what"], match["path"] or "") if match else (message, "")
    keys = tuple(key for key in address.split(".") if key)
    if (unknown := re.search(r"unknown field `(.+)`", what)) is not None:
        keys = (*keys, unknown[1])
        known = _known_keys(keys[:-1])
        near = difflib.get_close_matches(unknown[1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        said = f"unknown key: {hint}"
    else:
        for code, words in _WORDS.items():
            what = what.replace(code, words)
        said = what[:1].lower() + what[1:]
        if "got" not in said and "missing" not in said:
            said += f", got {_value_at(tree, keys)!r:.60}"
    return f"{sources.get(keys, path)}: {'.'.join(keys)}: {said}"


def _known_keys(keys: tuple[str, ...]) -> list[str]:
    section: Any = Config
    for key in keys:
        section = section.__annotations__.get(key, Config)
    return list(section.__struct_fields__)


def _value_at(tree: Any, keys: Iterable[str]) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _check_servers(config: Config, path: str) -> None:
    servers = config.kafka.get("bootstrap_servers", config.kafka.get("bootstrap.servers"))
    texts = servers.split(",") if isinstance(servers, str) else servers
    if not texts or not isinstance(texts, list) or not all(_is_address(text) for text in texts):
        message = (
            f"{path}: kafka.bootstrap_servers: expected host:port, or several with commas between, got {servers!r}"
        )
        raise UsageError(message)
    config.kafka["bootstrap_servers"] = [text.strip() for text in texts]
    config.kafka.pop("bootstrap.servers", None)


def _check_retention(config: Config, path: str) -> None:
    """The counter must keep every minute that the bucketer still lets in."""
    lets_in, keeps = config.bucketer.retention_seconds, config.counter.retention_seconds
    if keeps and (not lets_in or keeps < lets_in):
        message = (
            f"{path}: counter.retention_seconds: expected 0 (never) or at least bucketer.retention_seconds"
            f" ({lets_in}), got {keeps}"
        )
        raise UsageError(message)


_ADDRESS = re.compile(r"\s*(\[[0-9a-fA-F:]+\]|[^:\s]+):(?P<port>[0-9]{1,5})\s*", re.ASCII)
PORT_MAX = 65_535


def _is_address(text: object) -> bool:
    match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    return match is not None and 0 < int(match["port"]) <= PORT_MAX


def _check_fields(config: Config, path: str) -> None:
    if config.frame.uid == config.frame.ts:
        message = f"{path}: frame.ts: expected another field than frame.uid, got {config.frame.ts!r} for both"
        raise UsageError(message)


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
    try:
        ZoneInfo(timezone)
    except (ValueError, OSError, KeyError):
        message = f"{path}: counter.timezone: expected a zone like UTC or Europe/Berlin, got {timezone!r}"
        raise UsageError(message) from None
    if reason := wrong_layout(config, config.topics.bucketed.partitions):
        message = f"{path}: {reason}"
        raise UsageError(message)


def require_estimates(config: Config) -> None:
    """Raise UsageError when intervals are estimated and the package for that is missing."""
    if not config.counter.estimates:
        return
    try:
        sketch_class()
    except ImportError as error:
        message = f"counter.estimates: needs the package datasketches ({error}): pip install '.[estimates]'"
        raise UsageError(message) from None


def wrong_layout(config: Config, partitions: int) -> str | None:
    """Why the configured intervals would be counted wrongly over so many partitions of bucketed; None if rightly."""
    wide = [name for name in config.counter.intervals if name != MINUTE.name]
    if partitions == 1 or config.bucketer.partition_by == "uid" or not wide:
        return None
    return (
        f"counter.intervals: with bucketer.partition_by: bucket and {partitions} partitions of"
        f" {config.topics.bucketed.name!r}, the minutes of one {wide[0]} stand in several partitions, and a user would"
        " be counted in each of them: set bucketer.partition_by: uid with a new topic, or use one partition"
    )
