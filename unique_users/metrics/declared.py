"""Every metric, with its unit in its name and its help. The table in docs/metrics.md is tested against this list."""

from collections.abc import Mapping
from math import inf
from typing import Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from unique_users.metrics import Process
from unique_users.runtime.activity import Distribution

PREFIX = "unique_users_"
Labels = tuple[str, ...]
ALL: tuple[Process, ...] = ("producer", "bucketer", "counter", "dashboard")
READERS: tuple[Process, ...] = ("bucketer", "counter")


class Declared(NamedTuple):
    """One metric: its name without prefix, and without the `_total` that Prometheus adds to counters."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()
    processes: tuple[Process, ...] = ALL

    @property
    def full_name(self) -> str:
        """The name that queries use."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"


BUILD_INFO = Declared("build_info", "gauge", "Always 1: the versions in use.", ("version", "python", "client"))
RECORDS_IN = Declared("records_in", "counter", "Records polled.", (), READERS)
BYTES_IN = Declared(
    "bytes_in", "counter", "Bytes of the keys and values polled; estimated from every eighth record.", (), READERS
)
RECORDS_OUT = Declared("records_out", "counter", "Records handed to the client to send.", ("topic",), ALL[:3])
BYTES_OUT = Declared(
    "bytes_out",
    "counter",
    "Bytes of the keys and values handed to the client to send; estimated from every eighth record.",
    ("topic",),
    ALL[:3],
)
STEP_SECONDS = Declared("step_seconds", "histogram", "How long each step of the loop took.", ("step",), ALL[:3])
REBALANCES = Declared("rebalances", "counter", "How often partitions were assigned or revoked.", (), READERS)
LAG_RECORDS = Declared(
    "lag_records", "gauge", "Records that the group has not committed yet.", ("topic", "partition"), READERS
)
LAG_SECONDS = Declared(
    "lag_seconds",
    "gauge",
    "How long the oldest uncommitted record has waited; 0 if there is none.",
    ("topic", "partition"),
    READERS,
)
BROKER_SILENT = Declared(
    "broker_silent_seconds", "gauge", "Time since the broker last answered, or since the process started.", (), READERS
)
FRAMES_READ = Declared("frames_read", "counter", "Frames read and committed.", (), ALL[:2])
FRAMES_ACCEPTED = Declared("frames_accepted", "counter", "Frames accepted.", (), ALL[:2])
FRAMES_REJECTED = Declared(
    "frames_rejected", "counter", "Frames rejected and sent to the dead-letter topic.", ("reason",), ALL[:3]
)
LATENESS_SECONDS = Declared(
    "lateness_seconds",
    "histogram",
    "How far every eighth frame was behind the stream's time when it arrived.",
    (),
    ("bucketer",),
)
STREAM_TIME = Declared(
    "stream_timestamp_seconds", "gauge", "Event time of the slowest partition of feed that this process reads.", (),
    ("bucketer",),
)  # fmt: skip
WATERMARK = Declared(
    "watermark_timestamp_seconds", "gauge", "Frames with an earlier time are rejected as late.", (), ("bucketer",)
)
WATERMARK_AGE = Declared(
    "watermark_age_seconds", "gauge", "How far the watermark is behind the wall clock.", (), ("bucketer",)
)
PARTITIONS = Declared("partitions", "gauge", "Partitions that this process reads.", (), READERS)
NEW_USERS = Declared("new_users", "counter", "Users counted for the first time in a bucket.", ("interval",), ALL[2:3])
USERS_IN_MEMORY = Declared("users_in_memory", "gauge", "User ids held in memory, across all buckets.", (), ALL[2:3])
BUCKETS = Declared("buckets", "gauge", "Buckets held.", ("interval",), ALL[2:3])
BUCKETS_NOT_WHOLE = Declared(
    "buckets_not_whole",
    "gauge",
    "Buckets held that are marked because their count may be wrong.",
    ("interval",),
    ALL[2:3],
)
UNREADABLE = Declared("records_unreadable", "counter", "Records in bucketed that cannot be read.", (), ALL[2:3])
STATE_BYTES = Declared("state_bytes", "gauge", "Size of the state files.", (), ALL[2:3])
STATE_FREE_BYTES = Declared("state_free_bytes", "gauge", "Free space on the disk that holds the state.", (), ALL[2:3])
LAST_SAVE = Declared("last_save_timestamp_seconds", "gauge", "When everything counted was last saved.", (), ALL[2:3])
LAST_PUBLISH = Declared(
    "last_publish_timestamp_seconds", "gauge", "When everything saved was last published.", (), ALL[2:3]
)
MINUTE_USERS = Declared(
    "closed_minute_users",
    "gauge",
    "Unique users of the newest minute that has ended, as this process counts them.",
    (),
    ALL[2:3],
)
MINUTE_TIME = Declared("closed_minute_timestamp_seconds", "gauge", "When that minute began.", (), ALL[2:3])
PAGES = Declared("pages", "gauge", "Open pages.", (), ALL[3:])
PIPELINE_STATE = Declared(
    "pipeline_state", "gauge", "1 for the state that the page shows, 0 for the others.", ("state",), ALL[3:]
)

METRICS = tuple(each for each in tuple(globals().values()) if isinstance(each, Declared))


def family(declared: Declared, values: Mapping[Labels, float]) -> Metric:
    """The values of a counter or a gauge, by the values of its labels."""
    kind = CounterMetricFamily if declared.kind == "counter" else GaugeMetricFamily
    made = kind(PREFIX + declared.name, declared.help, labels=declared.labels)
    for labels, value in values.items():
        made.add_metric(labels, value)
    return made


def histogram(
    declared: Declared, distributions: Mapping[tuple[str], Distribution] | Mapping[tuple[()], Distribution]
) -> Metric:
    """The values of a histogram, by the values of its labels."""
    made = HistogramMetricFamily(PREFIX + declared.name, declared.help, labels=declared.labels)
    for labels, each in distributions.items():
        counts, below, buckets = list(each.counts), 0, []
        for bound, count in zip((*each.bounds, inf), counts, strict=True):
            below += count
            buckets.append(("+Inf" if bound == inf else str(float(bound)), below))
        made.add_metric(labels, buckets, each.sum)
    return made
