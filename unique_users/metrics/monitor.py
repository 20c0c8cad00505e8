"""Ties a process to its metrics and its health, if the configuration asks for them."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from unique_users.clients.protocols import Admin
from unique_users.config.schema import Config
from unique_users.metrics.declared import BROKER_SILENT, READERS, Process
from unique_users.metrics.families import WAITING, Source, build_info, single, state_disk
from unique_users.metrics.health import Health
from unique_users.metrics.lag_watch import LagWatch
from unique_users.metrics.server import serving
from unique_users.runtime.activity import ACTIVITY
from unique_users.runtime.heartbeat import PULSE

_log = logging.getLogger(__name__)


class Monitor(Collector):
    """What a process tells. Until `follow` says what that is, it is not ready; `on` is whether anybody asks."""

    def __init__(self, config: Config, process: Process, *, on: bool) -> None:
        self.on = on
        self._config = config
        self._process = process
        self._source: Source | None = None
        self._lag: LagWatch | None = None
        self._began_at = time.monotonic()

    def follow(self, source: Source) -> None:
        """Tell what this source has."""
        self._source = source

    def watch_lag(self, new_admin: Callable[[], Admin], group: str, topic: str) -> LagWatch:
        """Begin to watch a lag."""
        self._lag = LagWatch(new_admin, group, topic)
        return self._lag

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        yield build_info(self._config)
        if self._process in READERS:
            yield single(BROKER_SILENT, time.monotonic() - self._heard_at())
        if self._process == "counter":
            yield from state_disk(Path(self._config.state.directory))
        if self._source:
            yield from self._source.families()

    def not_ready(self) -> str:
        """Why the process cannot do its work yet; empty if it can."""
        return self._source.not_ready() if self._source else WAITING

    def _heard_at(self) -> float:
        """When the broker last answered, or the start of the process."""
        answered_at = self._lag.answered_at if self._lag else None
        return self._began_at if answered_at is None else answered_at

    def close(self) -> None:
        """Stop watching."""
        if self._lag:
            self._lag.close()


@contextmanager
def monitored(config: Config, process: Process) -> Iterator[Monitor]:
    """Serve the metrics and the health of this process where `metrics` says. Raises UsageError."""
    monitor = Monitor(config, process, on=config.metrics.port is not None)
    if not monitor.on:
        yield monitor
        return
    ACTIVITY.measured = True
    registry = CollectorRegistry()
    registry.register(monitor)
    ProcessCollector(registry=registry)
    with serving(config.metrics, registry, Health(PULSE, monitor.not_ready)) as address:
        _log.info(f"{process}: {address} has /metrics, /healthz and /readyz")
        try:
            yield monitor
        finally:
            monitor.close()
