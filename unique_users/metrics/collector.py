"""Hands what a process tells to Prometheus's client."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from unique_users.metrics.declared import BROKER_SILENT, READERS
from unique_users.metrics.families import build_info, single, state_disk
from unique_users.metrics.monitor import Monitor


class MonitorCollector(Collector):
    """What every process tells, and what its source does."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        monitor = self._monitor
        yield build_info(monitor.config)
        if monitor.process in READERS:
            yield single(BROKER_SILENT, monitor.broker_silent_seconds())
        if monitor.source:
            yield from monitor.source.families()


class SystemCollector(Collector):
    """What the operating system tells of this process, and of the disk of its state, when it was looked at last.

    Each question to the system gives the interpreter to a busy loop, so a scrape asks none.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._process = ProcessCollector(registry=None)
        self._state = Path(monitor.config.state.directory) if monitor.process == "counter" else None
        self._seen: list[Metric] = []
        self.look()

    def look(self) -> None:
        """Look now."""
        disk = state_disk(self._state) if self._state else ()
        self._seen = [*self._process.collect(), *disk]

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        yield from self._seen


def registry_of(monitor: Monitor) -> tuple[CollectorRegistry, SystemCollector]:
    """What is scraped of a process, and the part of it that has to be looked at again and again."""
    registry, system = CollectorRegistry(), SystemCollector(monitor)
    registry.register(MonitorCollector(monitor))
    registry.register(system)
    return registry, system
