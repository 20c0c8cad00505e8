"""One script of the product as a process: what it said and when, how it ended, what memory it took."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson
import psutil

from unique_users.aggregation.counts import Count
from unique_users.event_time.buckets import Bucket
from unique_users.reports.bucket_count import BucketCount

END_SECONDS = 120.0  # what a process gets to end on a busy machine; the promise is checked by its rows


class Line(NamedTuple):
    """A line, and the monotonic time at which it came."""

    at: float
    text: str


class Worker:
    """A running script. `lines` is its stdout, `said` its stderr; both grow while it runs."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: Path,
        feed: Iterable[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment` is added to that of the tests."""
        self.name = name
        self.lines: list[Line] = []
        self.said: list[Line] = []
        self.rss_bytes_max = 0
        self.killed = False
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if feed is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory,
            env={**os.environ, **(environment or {})},
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._threads = [
            threading.Thread(target=_read, args=(stream, into), daemon=True)
            for stream, into in ((self._process.stdout, self.lines), (self._process.stderr, self.said))
        ]
        if feed is not None:
            assert self._process.stdin is not None
            threading.Thread(target=_write, args=(self._process.stdin, feed), daemon=True).start()
        for thread in self._threads:
            thread.start()
        self._known = psutil.Process(self._process.pid)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    @property
    def complaints(self) -> str:
        return "\n".join(line.text for line in self.said)

    def last_words(self) -> str:
        """Its state and the last it said, for a failure's report."""
        lines = [*self.said[-4:], *self.lines[-2:]]
        state = "running" if self.alive else f"ended with {self.exit_code}"
        return "\n    ".join([f"{self.name} {self._process.pid}, {state}:", *(line.text[:300] for line in lines)])

    def look_at_memory(self) -> None:
        with suppress(psutil.Error):
            self.rss_bytes_max = max(self.rss_bytes_max, self._known.memory_info().rss)

    def kill(self) -> None:
        """End it as `kill -9` does, also when it is stopped."""
        if self.alive:
            self.look_at_memory()
            self.killed = True
            self._process.kill()
        self._reap()

    def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = END_SECONDS) -> float:
        """Ask it to end; return the seconds that it took."""
        begin = time.monotonic()
        if self.alive:
            self._process.send_signal(number)
        self.wait(seconds)
        return time.monotonic() - begin

    def wait(self, seconds: float = END_SECONDS) -> int:
        """Its exit code, once it has ended by itself."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            tail = "\n".join(line.text for line in self.said[-10:])
            raise AssertionError(f"{self.name} still runs after {seconds} s; it said:\n{tail}") from None
        self._reap()
        return self._process.returncode

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def reports(self) -> list[tuple[float, dict[str, Any]]]:
        """The summaries that a counter printed as JSON, each with the time at which it came."""
        found = [(line.at, orjson.loads(line.text)) for line in list(self.lines) if line.text.startswith("{")]
        return [(at, report) for at, report in found if "report" in report]

    def counts(self) -> dict[Bucket, Count]:
        """The last count of each bucket of each interval that a counter printed as JSON; estimates with bounds."""
        found = [orjson.loads(line.text) for line in list(self.lines) if line.text.startswith("{")]
        return {count.bucket: count.total for count in map(BucketCount.parsed, (f for f in found if "interval" in f))}

    def _reap(self) -> None:
        self._process.wait(END_SECONDS)
        for thread in self._threads:
            thread.join(END_SECONDS)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def _read(stream: IO[bytes], into: list[Line]) -> None:
    with suppress(ValueError):
        for line in stream:
            into.append(Line(time.monotonic(), line.decode(errors="replace").rstrip("\n")))  # noqa: PERF401 - as it comes


def _write(stream: IO[bytes], feed: Iterable[bytes]) -> None:
    with suppress(OSError, ValueError):
        for frame in feed:
            stream.write(frame + b"\n")
    with suppress(OSError, ValueError):
        stream.close()
