"""The configuration: every key with its type and default.

The defaults here match the values in `config.yaml`; a test makes sure of that.
"""

from datetime import date, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from unique_users.config.values import (
    Days,
    Fields,
    LongSeconds,
    Name,
    NamePrefix,
    Partitions,
    Port,
    PositiveInt,
    Scalar,
    Seconds,
    TableName,
    Text,
    TopicName,
    UrlPath,
)
from unique_users.event_time.buckets import IntervalName

DEFAULT_SERVERS = "localhost:9092"


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section of the file; unknown keys are errors."""


class Topic(Section, frozen=True, kw_only=True):
    """A topic, and how to create it if it is missing."""

    name: TopicName
    partitions: Partitions = 1
    replication: Annotated[int, Meta(ge=-1, le=32_767)] = 1
    settings: dict[Name, Scalar] = msgspec.field(default_factory=dict)


# The bucketer judges frames up to `frame.bytes_max`. Kafka has to carry more than that, so that an oversized frame
# reaches `rejected` whole. Longer lines are truncated, see replay.py.
_CARRIES_LARGE_FRAMES: dict[str, Scalar] = {"max.message.bytes": 8_388_608}
_FEED: dict[str, Scalar] = {**_CARRIES_LARGE_FRAMES, "retention.ms": 7 * 86_400_000}
_METRICS: dict[str, Scalar] = {"retention.ms": 30 * 86_400_000}
_REJECTED: dict[str, Scalar] = {**_CARRIES_LARGE_FRAMES, "retention.ms": 30 * 86_400_000}
# The segment that is written to is never compacted, so a new one begins every day.
_COUNTS: dict[str, Scalar] = {"cleanup.policy": "compact", "segment.ms": 86_400_000}
_PUBLISH_KEEP: dict[IntervalName, Days] = {"minute": 400, "5 minutes": 400}


class FeedTopic(Topic, frozen=True, kw_only=True):
    """The frames."""

    name: TopicName = "feed"
    settings: dict[str, Scalar] = msgspec.field(default_factory=_FEED.copy)


class BucketedTopic(Topic, frozen=True, kw_only=True):
    """One record for each accepted frame."""

    name: TopicName = "bucketed"


class CountsTopic(Topic, frozen=True, kw_only=True):
    """The counts."""

    name: TopicName = "counts"
    settings: dict[str, Scalar] = msgspec.field(default_factory=_COUNTS.copy)


class RejectedTopic(Topic, frozen=True, kw_only=True):
    """Dead letters: frames that are not counted."""

    name: TopicName = "rejected"
    settings: dict[str, Scalar] = msgspec.field(default_factory=_REJECTED.copy)


class MetricsTopic(Topic, frozen=True, kw_only=True):
    """A record for each report."""

    name: TopicName = "metrics"
    settings: dict[str, Scalar] = msgspec.field(default_factory=_METRICS.copy)


class Topics(Section, frozen=True, kw_only=True):
    """The four topics, and the one of metrics if it is wanted."""

    feed: FeedTopic = FeedTopic()
    bucketed: BucketedTopic = BucketedTopic()
    counts: CountsTopic = CountsTopic()
    rejected: RejectedTopic = RejectedTopic()
    metrics: MetricsTopic | None = None

    @property
    def optional(self) -> list[Topic]:
        """Those that nothing depends on, as far as they are wanted."""
        return [self.metrics] if self.metrics else []


class Frame(Section, frozen=True, kw_only=True):
    """Where a frame keeps its user and its time."""

    uid: Fields = "uid"
    ts: Fields = "ts"
    ts_unit: Literal["s", "ms", "us", "ns"] = "s"
    ts_min: date = date(2000, 1, 1)
    timezone: Name | None = None
    registry_framing: Literal["none", "json"] = "none"
    bytes_max: PositiveInt = 1_048_576


class Producer(Section, frozen=True, kw_only=True):
    """producer.py."""

    file: Name = "stream.gz"
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    report_seconds: Seconds = 60


class Bucketer(Section, frozen=True, kw_only=True):
    """bucketer.py."""

    group: Name = "bucketer"
    start: Name = "earliest"
    partition_by: Literal["bucket", "uid"] = "bucket"
    combine: bool = False
    allowed_lateness_seconds: LongSeconds = 86_400
    future_seconds_max: LongSeconds = 3_600
    commit_seconds: Seconds = 1
    report_seconds: Seconds = 60


class Counter(Section, frozen=True, kw_only=True):
    """counter.py."""

    group: Name = "counter"
    report_seconds: Seconds = 60
    save_seconds: Seconds = 5
    publish_seconds: Seconds = 1
    publish_keep_days: dict[IntervalName, Days] = msgspec.field(default_factory=_PUBLISH_KEEP.copy)
    retention_seconds: LongSeconds = 172_800
    idle_seconds: Seconds = 60
    uids_in_memory_max: PositiveInt = 2_000_000
    intervals: Annotated[list[IntervalName], Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["minute"])
    estimates: list[IntervalName] = msgspec.field(default_factory=list)
    timezone: Name = "UTC"


class State(Section, frozen=True, kw_only=True):
    """Where the counter keeps its state."""

    directory: Name = "state"


class Health(Section, frozen=True, kw_only=True):
    """When a process ends itself."""

    stuck_seconds: Seconds = 60


class Log(Section, frozen=True, kw_only=True):
    """How the three scripts log, on stderr."""

    format: Literal["text", "json"] = "text"


class Metrics(Section, frozen=True, kw_only=True):
    """Where each process serves its metrics and its health."""

    host: Name = "127.0.0.1"
    port: Port | None = None


class Dashboard(Section, frozen=True, kw_only=True):
    """The page of `unique-users dashboard`."""

    host: Name = "127.0.0.1"
    port: Port = 8360
    origins: list[Name] = msgspec.field(default_factory=list)
    prefix: UrlPath = ""
    pages_max: Annotated[int, Meta(ge=1, le=10_000)] = 200


class Postgres(Section, frozen=True, kw_only=True):
    """Where `unique-users export postgres` writes to."""

    dsn: Text = ""
    password: Text = ""
    table: TableName = "unique_users"


class Broker(Section, frozen=True, kw_only=True):
    """The local Kafka of `unique-users broker`."""

    version: Literal["4.3.1", "2.4.0"] = "4.3.1"
    data: Name = "data"


class Config(Section, frozen=True, kw_only=True):
    """The whole file."""

    name: NamePrefix = ""
    client: Literal["kafka-python", "librdkafka"] = "kafka-python"
    kafka: dict[str, Any] = msgspec.field(default_factory=lambda: {"bootstrap_servers": DEFAULT_SERVERS})
    topics: Topics = Topics()
    frame: Frame = Frame()
    producer: Producer = Producer()
    bucketer: Bucketer = Bucketer()
    counter: Counter = Counter()
    state: State = State()
    health: Health = Health()
    log: Log = Log()
    metrics: Metrics = Metrics()
    dashboard: Dashboard = Dashboard()
    postgres: Postgres = Postgres()
    broker: Broker = Broker()

    @property
    def bootstrap_servers(self) -> list[str]:
        """The addresses in `kafka.bootstrap_servers`, each `host:port`."""
        servers: str | list[str] = self.kafka["bootstrap_servers"]
        return [text.strip() for text in servers.split(",")] if isinstance(servers, str) else servers


def start_of(text: str) -> int | None:
    """The Kafka time in ms that `bucketer.start` names: 0 for earliest, None for latest. Raises ValueError."""
    if text in {"earliest", "latest"}:
        return 0 if text == "earliest" else None
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return max(0, round(at.timestamp() * 1000))
