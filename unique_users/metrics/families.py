"""Metrics that several processes have, as they are when they are asked for."""

import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from prometheus_client.core import Metric

from unique_users.config.schema import Config
from unique_users.messages.frame_totals import FrameTotals
from unique_users.metrics import declared
from unique_users.metrics.declared import Declared, family, histogram
from unique_users.metrics.lag_watch import LagWatch
from unique_users.runtime.activity import ACTIVITY
from unique_users.runtime.version import installed_version


class Source(Protocol):
    """Where metrics come from."""

    def families(self) -> Iterator[Metric]:
        """The metrics as they are now."""

    def not_ready(self) -> str:
        """Why the process cannot do its work yet; empty if it can."""


def build_info(config: Config) -> Metric:
    """The versions in use."""
    return family(declared.BUILD_INFO, {(installed_version(), platform.python_version(), config.client): 1})


def traffic_out() -> Iterator[Metric]:
    """What went out, and how long the steps of the loop took."""
    yield family(declared.RECORDS_OUT, {(topic,): n for topic, n in ACTIVITY.records_out.copy().items()})
    yield family(declared.BYTES_OUT, {(topic,): n for topic, n in ACTIVITY.bytes_out.copy().items()})
    used = {(step.value,): each for step, each in ACTIVITY.steps.items() if sum(each.counts)}
    yield histogram(declared.STEP_SECONDS, used)


def traffic_in(lag: LagWatch, topic: str, partitions: int) -> Iterator[Metric]:
    """What came in, and what is left of the topic."""
    yield single(declared.RECORDS_IN, ACTIVITY.records_in)
    yield single(declared.BYTES_IN, ACTIVITY.bytes_in)
    yield single(declared.REBALANCES, ACTIVITY.rebalances)
    yield single(declared.PARTITIONS, partitions)
    lags = lag.lags()
    yield family(declared.LAG_RECORDS, {(topic, str(p)): records for p, (records, _) in lags.items()})
    yield family(declared.LAG_SECONDS, {(topic, str(p)): seconds for p, (_, seconds) in lags.items()})


def frames(totals: FrameTotals) -> Iterator[Metric]:
    """What became of the frames."""
    yield single(declared.FRAMES_READ, totals.read)
    yield single(declared.FRAMES_ACCEPTED, totals.accepted)
    yield family(declared.FRAMES_REJECTED, {(reason,): n for reason, n in totals.rejected.copy().items()})


def single(which: Declared, value: float) -> Metric:
    """A metric without labels."""
    return family(which, {(): value})


def state_disk(directory: Path) -> Iterator[Metric]:
    """The space left for states, whether or not one is open."""
    with suppress(OSError):
        existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        yield single(declared.STATE_FREE_BYTES, shutil.disk_usage(existing).free)


def labelled(counts: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    """The values of a metric with one label."""
    return {(label,): value for label, value in counts.items()}
