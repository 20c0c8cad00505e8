"""A system whose four processes serve their metrics, with a stream of frames of now."""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Event
from typing import Any, Self
from urllib.error import URLError
from urllib.request import urlopen

from system import System, merged
from worker import Worker

from unique_users.local_kafka.broker import free_port
from unique_users.metrics import Process
from unique_users.metrics.declared import ALL

BAD_SHARE = 0.01
LATE_SHARE, LATE_SECONDS_MAX = 0.03, 600
USERS = 5_000
TICK_SECONDS = 0.1
PADDING = "x" * 400
# What is measured is the product as it comes: the harness has shorter times.
AS_BY_DEFAULT: dict[str, dict[str, Any]] = {
    "kafka": {"session_timeout_ms": 10_000, "heartbeat_interval_ms": 3_000},
    "bucketer": {"commit_seconds": 1, "report_seconds": 10},
    "counter": {
        "report_seconds": 10, "save_seconds": 5, "publish_seconds": 1, "intervals": ["minute", "hour", "day"],
    },
    "dashboard": {"port": 0},
}  # fmt: skip


class Stream:
    """Frames of now, as many a second as `rate` says at a moment; `bad` of them are none."""

    def __init__(self, rate: Callable[[], float], seed: int = 1) -> None:
        self.rate = rate
        self.bad = BAD_SHARE
        self._random = random.Random(seed)
        self._over = Event()

    def end(self) -> None:
        self._over.set()

    def frames(self) -> Iterator[bytes]:
        """The frames, each in its time."""
        owed, before = 0.0, time.monotonic()
        while not self._over.wait(TICK_SECONDS):
            now = time.monotonic()
            owed, before = owed + self.rate() * (now - before), now
            for _ in range(int(owed)):
                yield self._frame()
            owed %= 1

    def _frame(self) -> bytes:
        draw = self._random.random
        if draw() < self.bad:
            return b'{"uid": 17, "ts": "never"}' if draw() < 0.5 else b"no frame at all"
        late = int(draw() * LATE_SECONDS_MAX) if draw() < LATE_SHARE else 0
        frame = {"uid": f"user-{int(USERS * draw() ** 2):05d}", "ts": int(time.time()) - late, "more": PADDING}
        return json.dumps(frame).encode()


class Observed:
    """The four processes of one system, each with a port for its metrics. A context manager."""

    def __init__(
        self, directory: Path, broker: str, settings: Mapping[str, Mapping[str, Any]] | None = None, **rest: Any
    ) -> None:
        self.system = System(directory, broker, merged(AS_BY_DEFAULT, settings or {}), **rest)
        self.ports: dict[Process, int] = {process: free_port() for process in ALL}
        self.workers: dict[Process, Worker] = {}

    def start(self, process: Process, stream: Stream | None = None, **rest: Any) -> Worker:
        """Start a process, a producer with its stream."""
        over = [*rest.pop("settings", ()), f"metrics.port={self.ports[process]}"]
        if process == "producer":
            assert stream
            worker = self.system.start("producer", "-", settings=over, feed=stream.frames(), **rest)
        else:
            worker = self.system.start(process, settings=over, **rest)
        self.workers[process] = worker
        return worker

    def start_all(self, stream: Stream) -> None:
        """Start all four, and wait until they are ready."""
        self.start("bucketer")
        self.start("counter")
        self.start("dashboard")
        self.start("producer", stream)
        for process in ALL:
            self.system.until(lambda process=process: self.ready(process), f"{process} to be ready")  # type: ignore[misc]

    def asked(self, process: Process, path: str) -> str:
        """What a process answers. Raises OSError."""
        with urlopen(f"http://127.0.0.1:{self.ports[process]}/{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def ready(self, process: Process) -> bool:
        try:
            return bool(self.asked(process, "readyz"))
        except (URLError, OSError):
            return False

    def __enter__(self) -> Self:
        self.system.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self.system.__exit__(None, None, None)
