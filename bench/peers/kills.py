"""Whether an engine's counts are exact after its processes were killed, again and again, while frames came in."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import msgspec
from confluent_kafka import Producer
from late_and_bad import BAD, uneven_frames
from peer import Frame

FRAMES_A_SECOND = 2_000
FRAMES_MAX = 2_000_000
EVENT_SECONDS = FRAMES_MAX // 80  # of event time in them: a minute every two and a half seconds
USERS = 100_000
LOOK_SECONDS = 0.5
PROGRESS_SECONDS_MAX = 150.0  # from a launch to the first count; the longest session time-out and a start are in it
FLUSH_SECONDS_MAX = 60.0
QUIET_SECONDS_MAX = 40.0  # at the end, without a new count
KILL_AFTER_SECONDS = (0.1, 2.5)  # since the first count of a launch


class Job(NamedTuple):
    """An engine's processes, and what it has published."""

    commands: Sequence[Sequence[str]]
    end: Callable[[], int]  # how many records the topic with its counts has
    counts: Callable[[], dict[int, int]]


class Survived(NamedTuple):
    """What became of the counts."""

    exact: bool
    kills: int
    frames: int
    wrong_minutes: int
    seconds_to_counts: list[float]  # from each launch to its first count


class Feed:
    """Sends frames at a steady rate until it is stopped, some of them late or bad, and keeps what is to be counted."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 50, "compression.type": "lz4"})
        self._users: dict[int, set[str]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.frames = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> dict[int, int]:
        """End, when all is acknowledged. Returns the true counts."""
        self._over.set()
        self._thread.join()
        if left := self._producer.flush(FLUSH_SECONDS_MAX):
            sys.exit(f"{left} frames were not acknowledged")
        return {minute: len(uids) for minute, uids in self._users.items()}

    def _run(self) -> None:
        decode = msgspec.json.Decoder(Frame).decode
        began = time.monotonic()
        for line in uneven_frames(FRAMES_MAX, USERS, EVENT_SECONDS):
            self._producer.produce(self._topic, line)
            self.frames += 1
            if line not in BAD:
                frame = decode(line)
                self._users.setdefault(frame.ts // 60 * 60, set()).add(frame.uid)
            if self._over.is_set():
                return
            if self.frames % 100 == 0:
                self._producer.poll(0)
                time.sleep(max(0.0, began + self.frames / FRAMES_A_SECOND - time.monotonic()))


def survive(job: Job, feed: Feed, kills: int, said: Path) -> Survived:
    """Launch and kill so often while `feed` sends; then let the job count what is left."""
    chance = random.Random(kills)
    waits: list[float] = []
    feed.start()
    for _ in range(kills):
        with _Launched(job, said) as launched:
            waits.append(launched.until_a_count())
            print(f"{waits[-1]:.1f} s to a count", file=sys.stderr, flush=True)
            time.sleep(chance.uniform(*KILL_AFTER_SECONDS))
    with _Launched(job, said) as launched:
        waits.append(launched.until_a_count())
        expected = feed.stop()
        launched.until(expected)
    counts = job.counts()
    wrong = sum(1 for minute in expected.keys() | counts.keys() if expected.get(minute) != counts.get(minute))
    return Survived(not wrong, kills, feed.frames, wrong, waits)


class _Launched:
    """A job's processes, from their launch to the moment when all are killed."""

    def __init__(self, job: Job, said: Path) -> None:
        self._job = job
        self._said = said

    def __enter__(self) -> Self:
        self._launched_at = time.monotonic()
        self._had = self._job.end()
        with self._said.open("w") as output:
            self._processes = [
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
                for command in self._job.commands
            ]
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()

    def until_a_count(self) -> float:
        """Wait for a count that is published since the launch. Returns the seconds since then."""
        while self._job.end() == self._had:
            self._look()
            if time.monotonic() - self._launched_at > PROGRESS_SECONDS_MAX:
                sys.exit(f"no count in {PROGRESS_SECONDS_MAX:.0f} s: {self._words()}")
        return time.monotonic() - self._launched_at

    def until(self, expected: dict[int, int]) -> None:
        """Wait for these counts, or until nothing new is published for long."""
        changed, had = time.monotonic(), -1
        while self._job.counts() != expected and time.monotonic() - changed < QUIET_SECONDS_MAX:
            self._look()
            if (now := self._job.end()) != had:
                changed, had = time.monotonic(), now

    def _look(self) -> None:
        for process in self._processes:
            if process.poll() is not None:
                sys.exit(f"{process.args!r} ended with {process.returncode}: {self._words()}")
        time.sleep(LOOK_SECONDS)

    def _words(self) -> str:
        return self._said.read_text(errors="replace").strip()[-3_000:]
