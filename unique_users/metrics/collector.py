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
        if monitor.process == "counter":
            yield from state_disk(Path(monitor.config.state.directory))
        if monitor.source:
            yield from monitor.source.families()


def registry_of(monitor: Monitor) -> CollectorRegistry:
    """What is scraped of a process."""
    registry = CollectorRegistry()
    registry.register(MonitorCollector(monitor))
    ProcessCollector(registry=registry)
    return registry
