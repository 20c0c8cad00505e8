"""Time the pipeline: real scripts, a real broker, generated frames of 2 KB, and whether the counts are exact.

    python bench/pipeline.py                                       1,000,000 frames, kafka-python
    python bench/pipeline.py --frames 100000 --runs 5 -- bucketer.commit_seconds=2

First the producer fills `feed`; then bucketer and counter run side by side until the counter has counted all. CPU is
that of the whole processes, their start included; memory is the largest resident size seen.
"""

import argparse
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from unique_users.local_kafka import LocalKafka, free_port  # noqa: E402
from unique_users.sample import frames  # noqa: E402

USERS = 100_000
SECONDS = 17 * 60  # of event time
SAMPLE_SECONDS = 0.05


class Figures(NamedTuple):
    """What one process took."""

    wall_seconds: float
    cpu_seconds: float
    peak_mb: float


class Watched:
    """A process whose CPU time and memory are sampled while it runs."""

    def __init__(self, command: list[str], stdout: Path) -> None:
        self._started = time.monotonic()
        with stdout.open("w") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=sys.stderr)
        self._seen = psutil.Process(self.process.pid)
        self._cpu = self._peak = 0.0

    def sample(self) -> bool:
        """Look at the process; return whether it still runs."""
        try:
            times, memory = self._seen.cpu_times(), self._seen.memory_info()
            self._cpu, self._peak = times.user + times.system, max(self._peak, memory.rss / 1e6)
        except psutil.Error:
            pass
        return self.process.poll() is None

    def figures(self) -> Figures:
        """Wait for the end of the process, which must be a good one."""
        while self.sample():
            time.sleep(SAMPLE_SECONDS)
        if self.process.returncode:
            sys.exit(f"{self.process.args} ended with {self.process.returncode}")
        return Figures(time.monotonic() - self._started, self._cpu, self._peak)


def main() -> None:
    """Print a table; `--json FILE` keeps the raw figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("settings", nargs="*", metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        file, expected = stream(Path(scratch), arguments.frames)
        for number in range(arguments.runs):
            with directory(Path(scratch) / str(number)) as place:
                runs.append(run(place, file, arguments.frames, expected, arguments.settings))
            print(json.dumps(runs[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(runs, indent=1))
    show(runs, arguments.frames)


def stream(scratch: Path, count: int) -> tuple[Path, dict[int, int]]:
    """A file of generated frames and the true count of each minute."""
    users: dict[int, set[str]] = {}
    file = scratch / "stream.gz"
    with gzip.open(file, "wb", compresslevel=1) as out:
        for frame in frames(count, users=USERS, seconds=SECONDS):
            out.write(frame + b"\n")
            root = json.loads(frame)
            users.setdefault(root["ts"] // 60 * 60, set()).add(root["uid"])
    return file, {start: len(uids) for start, uids in users.items()}


@contextmanager
def directory(path: Path) -> Iterator[Path]:
    """A directory that is gone afterwards: a million frames are some hundred megabytes."""
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def run(place: Path, file: Path, count: int, expected: dict[int, int], settings: list[str]) -> dict[str, object]:
    """One run on a broker of its own."""
    with LocalKafka("4.3.1", place / "kafka", free_port()) as kafka:
        flags = [f"kafka.bootstrap_servers={kafka.bootstrap_servers}", f"state.directory={place / 'state'}"]
        flags += ["counter.report_seconds=0.5", *settings]

        def script(name: str, *extra: str) -> list[str]:
            sets = [part for flag in flags for part in ("--set", flag)]
            return [sys.executable, str(ROOT / name), *extra, "--config", str(ROOT / "config.yaml"), *sets]

        produced = Watched(script("producer.py", str(file)), place / "producer").figures()
        broker = psutil.Process(kafka.pid)
        before = sum(broker.cpu_times()[:2])
        started = time.monotonic()
        counter = Watched(script("counter.py", "--format", "json"), place / "counter")
        bucketer = Watched(script("bucketer.py", "--until-caught-up"), place / "bucketer")
        counted: dict[str, int] = {}
        with (place / "counter").open() as reports:
            while sum(counted.values()) < sum(expected.values()):
                bucketer.sample()
                if not counter.sample():
                    sys.exit("the counter ended")
                for line in reports:
                    report = json.loads(line)
                    if "start" in report:
                        counted[report["start"]] = report["unique_users"]
                time.sleep(SAMPLE_SECONDS)
        seconds = time.monotonic() - started
        broker_cpu = sum(broker.cpu_times()[:2]) - before
        bucketed = bucketer.figures()
        counter.process.terminate()
        counted_figures = counter.figures()
    return {
        "frames": count,
        "exact": sorted(counted.values()) == sorted(expected.values()),
        "frames_per_second": count / seconds,
        "broker_cpu_seconds": broker_cpu,
        "producer": produced._asdict(),
        "bucketer": bucketed._asdict(),
        "counter": counted_figures._asdict(),
    }


def show(runs: list[dict[str, object]], count: int) -> None:
    """The medians."""

    def median(*path: str) -> float:
        values = []
        for value in runs:
            node: object = value
            for name in path:
                node = node[name]  # type: ignore[index]
            values.append(float(node))  # type: ignore[arg-type]
        return statistics.median(values)

    print(f"\n{os.cpu_count()} cores, {count:,} frames, median of {len(runs)}")
    print(f"exact: {all(bool(each['exact']) for each in runs)}")
    print(f"bucketer and counter together: {median('frames_per_second'):,.0f} frames/s")
    print(f"{'':10}{'frames/s':>12}{'CPU µs/frame':>14}{'peak MB':>10}")
    for script in ("producer", "bucketer", "counter"):
        rate = f"{count / median(script, 'wall_seconds'):,.0f}" if script != "counter" else ""
        cpu = median(script, "cpu_seconds") / count * 1e6
        print(f"{script:10}{rate:>12}{cpu:14.1f}{median(script, 'peak_mb'):10.0f}")
    print(f"{'broker':10}{'':12}{median('broker_cpu_seconds') / count * 1e6:14.1f}")


if __name__ == "__main__":
    main()
