"""Scrapes of processes that are at work."""

import threading
import time
from http.client import HTTPConnection, HTTPException

from unique_users.local_kafka.broker import free_port


class Scrapes:
    """Scrapes the metrics of processes every so many seconds, and notes how long each scrape takes.

    Like Prometheus, it keeps its connections open.
    """

    def __init__(self, every_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._targets: list[HTTPConnection] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seconds: list[float] = []

    def settings(self, *, on: bool) -> list[str]:
        """What makes one more process serve its metrics."""
        if not on:
            return []
        port = free_port()
        self._targets.append(HTTPConnection("127.0.0.1", port, timeout=10))
        if len(self._targets) == 1:
            self._thread.start()
        return [f"metrics.port={port}"]

    def close(self) -> None:
        """Scrape no more."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(self._every_seconds):
            for target in list(self._targets):
                if (took := scrape(target)) is not None:
                    self.seconds.append(took)


def scrape(target: HTTPConnection) -> float | None:
    """The seconds that a scrape takes; None if the process has not begun yet, or has ended."""
    began = time.perf_counter()
    try:
        target.request("GET", "/metrics")
        target.getresponse().read()
    except (OSError, HTTPException):
        target.close()  # the next request connects again
        return None
    return time.perf_counter() - began
