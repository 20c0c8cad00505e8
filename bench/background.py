"""Commands of the product that run while something is measured, and frames that reach them at a steady rate."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from unique_users.clients.connect import get_producer
from unique_users.config.schema import Config

ROOT = Path(__file__).resolve().parents[1]
ACKNOWLEDGE_SECONDS = 30.0


@contextmanager
def running(sets: Sequence[str], *names: str) -> Iterator[list[psutil.Popen]]:
    """Commands until the end of the block. What a dashboard logs, such as its address, can be read from its stderr."""
    flags = [part for setting in sets for part in ("--set", setting)]
    processes = [
        psutil.Popen(
            [sys.executable, "-m", "unique_users", name, "--config", str(ROOT / "config.yaml"), *flags],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if name == "dashboard" else subprocess.DEVNULL,
            text=True,
        )
        for name in names
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def cpu_seconds(processes: Sequence[psutil.Process]) -> list[float]:
    """What each process has used."""
    return [sum(process.cpu_times()[:2]) for process in processes]


def send_paced(config: Config, rate: int, frames: int, frame_of: Callable[[int], str]) -> list[float]:
    """Send frames at a rate, each made from its number. Returns when each was handed over, once all have arrived."""
    producer = get_producer(config)
    sent: list[float] = []
    begin = time.monotonic()
    while len(sent) < frames:
        due = min(int((time.monotonic() - begin) * rate) + 1, frames) - len(sent)
        if due > 0:
            now = time.monotonic()
            producer.send_all(config.topics.feed.name, [frame_of(len(sent) + i).encode() for i in range(due)])
            sent += [now] * due
        producer.backpressure_eased(0)
        time.sleep(0.005)
    producer.flush(ACKNOWLEDGE_SECONDS)
    producer.close()
    return sent


def latencies(seen: Sequence[tuple[float, int]], sent: Sequence[float]) -> list[float]:
    """How long each frame took until a count included it: of frames with users of their own, N says the first N."""
    found: list[float] = []
    for at, count in seen:
        found += [at - handed_over for handed_over in sent[len(found) : count]]
    return found
