"""What shapes of frames cost: python bench/shapes.py [--pipeline] [--frames 200000] [--client kafka-python].

Prints µs of CPU a frame in `FrameParser.parse_all`, the best of 25 passes taken in turn, each beside that of a flat
frame with an integer time. With --pipeline, also what bucketer and counter take together on a local broker, the median
of 3 runs.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from unique_users.local_kafka.broker import LocalKafka, free_port  # noqa: E402
from unique_users.messages.frame import FrameFormat  # noqa: E402
from unique_users.messages.frame_parser import FrameParser  # noqa: E402

BATCH, BATCHES, PASSES, RUNS = 500, 12, 25, 3
PER_MINUTE = 3_000
TOPICS = ("feed", "bucketed", "counts", "rejected")
START = 1_716_200_000
_random = Random(1)


def _uid(number: int) -> str:
    return f"user-{number * 7919 % 99_991:06}"


def _iso(ts: int) -> str:
    return datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%dT%H:%M:%S")


Shape = tuple[dict[str, Any], Callable[[int, int], dict[str, Any]]]  # settings of `frame`, and the fields
SHAPES: dict[str, Shape] = {
    "flat, integer seconds": ({}, lambda n, t: {"uid": _uid(n), "ts": t}),
    "float seconds": ({}, lambda n, t: {"uid": _uid(n), "ts": t + _random.random()}),
    "milliseconds": ({"ts_unit": "ms"}, lambda n, t: {"uid": _uid(n), "ts": t * 1000 + _random.randrange(1000)}),
    "seconds as a string": ({}, lambda n, t: {"uid": _uid(n), "ts": str(t)}),
    "ISO": ({}, lambda n, t: {"uid": _uid(n), "ts": _iso(t) + "Z"}),
    "ISO with microseconds": (
        {},
        lambda n, t: {"uid": _uid(n), "ts": f"{_iso(t)}.{_random.randrange(10**6):06}+00:00"},
    ),
    "ISO without a zone": ({"timezone": "Europe/Berlin"}, lambda n, t: {"uid": _uid(n), "ts": _iso(t)}),
    "a path": ({"uid": "user.id"}, lambda n, t: {"user": {"id": _uid(n), "name": "n"}, "ts": t}),
    "integer ids": ({}, lambda n, t: {"uid": n * 7919 % 99_991 + 1, "ts": t}),
    "a fallback": (
        {"uid": ["userId", "anonymousId"]},
        lambda n, t: {"userId": [None, "", _uid(n)][n % 3], "anonymousId": _uid(n + 3), "ts": t},
    ),
}


def frames(shape: Shape, count: int) -> list[bytes]:
    """Frames of 1.5 kB, in order of their times."""
    fields = shape[1]
    return [
        json.dumps(
            {"id": n, "text": "x" * 700, **fields(n, START + n * 60 // PER_MINUTE), "more": "lorem ipsum " * 60}
        ).encode()
        for n in range(count)
    ]


def parsing() -> dict[str, float]:
    """µs of CPU a frame for each shape."""
    parsers = {name: FrameParser(FrameFormat(**shape[0])) for name, shape in SHAPES.items()}
    batches = {}
    for name, shape in SHAPES.items():
        made = frames(shape, BATCH * BATCHES)
        batches[name] = [made[at : at + BATCH] for at in range(0, len(made), BATCH)]
    best = dict.fromkeys(SHAPES, float("inf"))
    for _ in range(PASSES):
        for name, parser in parsers.items():
            started = time.process_time()
            for batch in batches[name]:
                parser.parse_all(batch)
            best[name] = min(best[name], (time.process_time() - started) / (BATCH * BATCHES) * 1e6)
    return best


def pipeline(count: int, client: str) -> dict[str, float]:
    """µs of CPU a frame that bucketer and counter take together, for each shape."""
    taken: dict[str, list[float]] = {name: [] for name in SHAPES}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        place = Path(directory)
        with LocalKafka("4.3.1", place / "kafka", free_port()) as kafka:
            for run in range(RUNS):
                for number, (name, shape) in enumerate(SHAPES.items()):
                    own = f"shape{number}-{run}"
                    sets = [f"kafka.bootstrap_servers={kafka.bootstrap_servers}", f"client={client}"]
                    sets += [f"topics.{topic}.name={own}-{topic}" for topic in TOPICS]
                    sets += [f"{script}.group={own}-{script}" for script in ("bucketer", "counter")]
                    sets += [f"state.directory={place / own}"]
                    sets += [f"frame.{key}={_yaml(value)}" for key, value in shape[0].items()]
                    run_script("producer", sets, "-", stdin=b"\n".join(frames(shape, count)))
                    cpu = [run_script(script, sets, "--until-caught-up") for script in ("bucketer", "counter")]
                    taken[name].append(sum(cpu) / count * 1e6)
    return {name: statistics.median(each) for name, each in taken.items()}


def _yaml(value: object) -> str:
    return f"[{', '.join(value)}]" if isinstance(value, list) else str(value)


def run_script(script: str, sets: Sequence[str], *arguments: str, stdin: bytes | None = None) -> float:
    """Run a script to its end; return the seconds of CPU that it took."""
    flags = [flag for each in sets for flag in ("--set", each)]
    before = psutil.Process().cpu_times()
    subprocess.run(
        [sys.executable, "-m", "unique_users", script, *arguments, *flags],
        input=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        check=True,
    )
    after = psutil.Process().cpu_times()
    return (after.children_user - before.children_user) + (after.children_system - before.children_system)


def table(taken: dict[str, float]) -> None:
    """Print each shape beside the first."""
    first = next(iter(taken.values()))
    for name, cpu in taken.items():
        print(f"  {name:24} {cpu:6.2f} µs  {cpu / first:.2f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", action="store_true")
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--client", default="kafka-python")
    arguments = parser.parse_args()
    print("FrameParser.parse_all:")
    table(parsing())
    if arguments.pipeline:
        print(f"bucketer and counter, {arguments.client}, {arguments.frames:,} frames:")
        table(pipeline(arguments.frames, arguments.client))


if __name__ == "__main__":
    main()
