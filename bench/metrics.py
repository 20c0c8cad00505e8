"""What metrics cost a script that has a core to itself, and how long a scrape takes while it works at full speed.

    python bench/metrics.py                      1,000,000 frames, every client in both shapes, six times
    python bench/metrics.py --runs 2 --only librdkafka

`feed` is filled once. In each run, a bucketer works through it, and a counter through what that has written: without
metrics, with metrics that are scraped every two seconds, and with a scrape every 50 ms; in the opposite order every
second time. CPU is counted from when a process says that it reads, to its end. The times of scrapes come from the third
part, without those that found the process waiting for its group.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench/peers")]

from runs import bench  # noqa: E402
from scrapes import scrape  # noqa: E402
from variants import VARIANTS  # noqa: E402
from watched import ENVIRONMENT  # noqa: E402

from unique_users.local_kafka.broker import free_port  # noqa: E402

OFTEN_SECONDS, USUAL_SECONDS = 0.05, 2.0
BUSY_SHARE = 0.8  # of a core


class Alone(NamedTuple):
    """What a script took that had a core to itself."""

    cpu_seconds: float
    busy_seconds: float
    scrape_seconds: Sequence[float]  # of each scrape while it was busy


def alone(command: Sequence[str], scraped_every_seconds: float | None) -> Alone:
    """Run a script to its end, with metrics if they are scraped."""
    port = free_port()
    sets = [] if scraped_every_seconds is None else ["--set", f"metrics.port={port}"]
    cpu = -cpu_of_children()
    process = subprocess.Popen([*command, *sets], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)
    assert process.stderr
    while b": reading" not in (line := process.stderr.readline()):
        assert line, f"{command!r} has ended"
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    seen, busy, scrapes = psutil.Process(process.pid), 0.0, list[float]()
    looked_at, used = time.perf_counter(), sum(seen.cpu_times()[:2])
    cpu -= used
    while process.poll() is None:
        try:
            process.wait(scraped_every_seconds or USUAL_SECONDS)
        except subprocess.TimeoutExpired:
            now, total = time.perf_counter(), sum(seen.cpu_times()[:2])
            works = total - used > BUSY_SHARE * (now - looked_at)
            busy += works * (now - looked_at)
            looked_at, used = now, total
            took = scrape(connection) if sets else None
            if works and took is not None:
                scrapes.append(took)
    if process.returncode:
        sys.exit(f"{command!r} ended with {process.returncode}: {process.stderr.read().decode()}")
    return Alone(cpu + cpu_of_children(), busy, scrapes)


def cpu_of_children() -> float:
    """The CPU seconds of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--only", default="", help="variants whose name has this in it")
    arguments = parser.parse_args()
    variants = [variant for variant in VARIANTS if arguments.only in str(variant)]
    found: dict[str, list[list[Alone]]] = {}
    with bench(arguments.frames, []) as ready:
        for number in range(arguments.runs):
            for variant in variants:
                parts = [(ready.commands(variant), every) for every in (None, USUAL_SECONDS, OFTEN_SECONDS)]
                # The broker may still be writing what the run before has sent: this way it slows all of them alike.
                order = (0, 1, 2) if number % 2 == 0 else (2, 1, 0)
                for script in ("bucketer", "counter"):
                    name = f"{script}, {variant}"
                    took = {part: alone(parts[part][0][script], parts[part][1]) for part in order}
                    found.setdefault(name, []).append([took[part] for part in sorted(took)])
                    print(f"run {number + 1}: {name}: {told(found[name][-1:], 0)}", file=sys.stderr, flush=True)
    print("| script | CPU s: without, with metrics | median of the pairs | frames/s | scrapes at that speed, ms |")
    print("|---|---|---|---|---|")
    for name, runs in found.items():
        print(f"| {name} | {told(runs, arguments.frames)} |")


def told(runs: Sequence[Sequence[Alone]], frames: int) -> str:
    """The medians of some runs, as cells of a table."""
    without, usual = ([run[part].cpu_seconds for run in runs] for part in range(2))
    ratio = statistics.median(on / off for off, on in zip(without, usual, strict=True))
    rate = frames / max(statistics.median(run[2].busy_seconds for run in runs), OFTEN_SECONDS)
    took = sorted(seconds * 1e3 for run in runs for seconds in run[2].scrape_seconds)
    scrapes = "none: it ended before"
    if took:
        scrapes = f"median {statistics.median(took):.1f}, 95 % below {took[len(took) * 95 // 100]:.1f}"
        scrapes += f", longest {took[-1]:.1f} ({len(took)} scrapes)"
    cpu = f"{statistics.median(without):.2f}, {statistics.median(usual):.2f}"
    return " | ".join([cpu, f"{100 * (ratio - 1):+.1f} %", f"{rate:,.0f}", scrapes])


if __name__ == "__main__":
    main()
