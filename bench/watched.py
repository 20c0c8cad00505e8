"""Processes of the product whose CPU time, memory and reports are watched while they run."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from unique_users.event_time.buckets import Bucket
from unique_users.reports.bucket_count import BucketCount

SAMPLE_SECONDS = 0.02
# Compiled modules are kept, as they are for whoever has not forbidden it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class Figures(NamedTuple):
    """What a process took, or some together. `start_cpu_seconds` went before the work, and is not in `cpu_seconds`."""

    wall_seconds: float
    cpu_seconds: float
    start_cpu_seconds: float
    peak_mb: float

    @classmethod
    def together(cls, parts: Sequence["Figures"]) -> "Figures":
        """The longest time, and the sums of the rest: peaks of memory may have come at different moments."""
        walls, cpus, start_cpus, peaks = zip(*parts, strict=True)
        return cls(max(walls), sum(cpus), sum(start_cpus), sum(peaks))


class Watched:
    """A process whose CPU time and memory are sampled while it runs."""

    def __init__(self, command: list[str], stdout: Path, stdin: Any = subprocess.DEVNULL) -> None:
        self._started = time.monotonic()
        self._said = stdout.with_suffix(".err")
        with stdout.open("w") as out, self._said.open("w") as err:
            self.process = subprocess.Popen(command, stdin=stdin, stdout=out, stderr=err, env=ENVIRONMENT)
        self._seen = psutil.Process(self.process.pid)
        self._cpu = self._peak = 0.0
        self._start_cpu: float | None = None

    def sample(self) -> bool:
        """Look at the process; return whether it still runs."""
        try:
            times, memory = self._seen.cpu_times(), self._seen.memory_info()
            self._cpu, self._peak = times.user + times.system, max(self._peak, memory.rss / 1e6)
        except psutil.Error:
            pass
        if self._start_cpu is None and ": reading" in self._said.read_text():
            self._start_cpu = self._cpu
        return self.process.poll() is None

    def begins(self) -> None:
        """What it has used until now was not for its work."""
        self.sample()
        self._start_cpu = self._cpu

    def figures(self) -> Figures:
        """Wait for the end of the process, which must be a good one."""
        while self.sample():
            time.sleep(SAMPLE_SECONDS)
        if self.process.returncode:
            sys.exit(f"{self.process.args!r} ended with {self.process.returncode}: {self._said.read_text()}")
        start = self._start_cpu or 0.0
        return Figures(time.monotonic() - self._started, self._cpu - start, start, self._peak)


class Reports:
    """What one counter reports, as JSON lines in a file that grows."""

    def __init__(self, file: Path) -> None:
        self._file = file.open()
        self._rest = ""  # of a line that is being written
        self.counted: dict[Bucket, int] = {}
        self.partitions: list[int] = []

    def read(self) -> None:
        """Take in what was written since."""
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        for line in lines:
            report = json.loads(line)
            if "start" in report:
                count = BucketCount.parsed(report)
                self.counted[count.bucket] = count.unique_users
                continue
            self.partitions = report["partitions"]

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
