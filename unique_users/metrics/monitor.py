"""Ties a process to its metrics and its health, if the configuration asks for them.

Prometheus's client is imported only then: it takes 8 MB.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from unique_users.clients.protocols import Admin
from unique_users.config.schema import Config
from unique_users.metrics import Process
from unique_users.metrics.health import Health
from unique_users.metrics.lag_watch import LagWatch
from unique_users.runtime.heartbeat import PULSE

if TYPE_CHECKING:
    from unique_users.metrics.families import Source

_log = logging.getLogger(__name__)

WAITING = "waiting for the broker"


class Monitor:
    """What a process tells. Until it has a `source`, it is not ready."""

    def __init__(self, config: Config, process: Process) -> None:
        self.config = config
        self.process = process
        self.source: Source | None = None
        self._lag: LagWatch | None = None
        self._began_at = time.monotonic()

    @property
    def on(self) -> bool:
        """Whether anybody is to be told."""
        return self.config.metrics.port is not None

    def watch_lag(self, new_admin: Callable[[], Admin], group: str, topic: str) -> LagWatch:
        """Begin to watch a lag."""
        self._lag = LagWatch(new_admin, group, topic)
        return self._lag

    def not_ready(self) -> str:
        """Why the process cannot do its work yet; empty if it can."""
        return self.source.not_ready() if self.source else WAITING

    def broker_silent_seconds(self) -> float:
        """Time since the broker last answered, or since the process started."""
        answered_at = self._lag.answered_at if self._lag else None
        return time.monotonic() - (self._began_at if answered_at is None else answered_at)

    def close(self) -> None:
        """Stop watching."""
        if self._lag:
            self._lag.close()


@contextmanager
def monitored(config: Config, process: Process) -> Iterator[Monitor]:
    """Serve the metrics and the health of this process where `metrics` says. Raises UsageError."""
    monitor = Monitor(config, process)
    if not monitor.on:
        yield monitor
        return
    from unique_users.metrics.collector import registry_of  # noqa: PLC0415 - see above
    from unique_users.metrics.server import serving  # noqa: PLC0415

    registry, system = registry_of(monitor)
    with serving(config.metrics, registry, Health(PULSE, monitor.not_ready), system.look) as address:
        _log.info(f"{process}: {address} has /metrics, /healthz and /readyz")
        try:
            yield monitor
        finally:
            monitor.close()
