"""What every peer shares: its flags, its stopwatch, and the file with its result."""

import argparse
import json
import resource
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

SILENCE_SECONDS_MAX = 60.0  # without a new frame; then a peer gives up


class Frame(msgspec.Struct, gc=False):
    """The two fields of a frame that count; msgspec skips the rest of its JSON."""

    uid: str
    ts: int


NO_FRAME = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what decoding something else raises


class Task(NamedTuple):
    """What the command line asks for. With `state`, a launch with the same `name` goes on where the last one was."""

    bootstrap_servers: str
    topic: str
    frames: int
    out: Path
    shape: str
    name: str
    state: Path | None
    counts: str


class Stopwatch:
    """Wall and CPU time between two moments, of all threads and of children that have ended."""

    def __init__(self) -> None:
        self.running = False
        self.seconds = self.cpu_seconds = 0.0

    def start(self) -> None:
        """Set off; to be called at the first frame."""
        self.running = True
        self.seconds, self.cpu_seconds = -time.monotonic(), -_cpu_seconds()

    def stop(self) -> None:
        """Stop; to be called when the last frame is counted."""
        self.seconds += time.monotonic()
        self.cpu_seconds += _cpu_seconds()
        self.running = False


def _cpu_seconds() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def task(description: str | None, shapes: Sequence[str] = ("direct",)) -> Task:
    """Read the command line; the first of `shapes` is the default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap-servers", required=True, metavar="HOST:PORT")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--frames", type=int, required=True, help="end when so many are counted")
    parser.add_argument("--out", type=Path, required=True, help="where the result goes, as JSON")
    parser.add_argument("--shape", choices=shapes, default=shapes[0])
    parser.add_argument("--name", default=f"peer-{uuid.uuid4().hex[:8]}", help="of the group; the next launch goes on")
    parser.add_argument("--state", type=Path, help="a directory that outlives the process")
    parser.add_argument("--counts", default="", metavar="TOPIC", help="the topic that the counts are published to")
    return Task(**vars(parser.parse_args()))


def finish(
    asked: Task, counted: int, counts: Mapping[int, int], watch: Stopwatch, *, rejected: int, settings: int
) -> None:
    """Write the result. Exits with an error when not every frame was counted or rejected."""
    if counted + rejected != asked.frames:
        silence = f"no new frame for {SILENCE_SECONDS_MAX:.0f} s"
        wanted = f"expected {asked.frames:,} frames, counted {counted:,} and rejected {rejected:,}"
        raise SystemExit(f"{asked.topic!r}: {wanted}: {silence}")
    result = {
        "counts": {str(start): counts[start] for start in sorted(counts)},
        "seconds": watch.seconds,
        "cpu_seconds": watch.cpu_seconds,
        "rejected": rejected,
        "late": 0,
        "settings": settings,
    }
    asked.out.write_text(json.dumps(result), encoding="utf-8")
