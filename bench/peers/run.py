"""Run the peers, programs that do the project's job with other stream engines, on a topic that is filled already.

    python bench/peers/run.py --bootstrap-servers localhost:9092 --topic feed --frames 1000000 --expected counts.json

Each has what it needs in bench/.venvs, made when it is missing or made from something else: those in Python a virtual
environment from requirements-NAME.txt, those in Java what Maven builds. `counts.json` holds the true counts:
{"1704116220": 1234, …}.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypedDict

from registry import PEERS
from topics import create, published


class Result(TypedDict):
    """What one peer did. CPU of a frame is that of its process from the first frame to the last.

    `launch_seconds` and what follows it are those of the whole process, from its launch to its end. A durable peer is
    exact when what it published is.
    """

    peer: str
    exact: bool
    rejected: int
    late: int
    settings: int
    frames_per_second: float
    cpu_us_per_frame: float
    launch_seconds: float
    all_cpu_seconds: float
    peak_mb: float


def run_peers(
    bootstrap_servers: str, topic: str, frames: int, expected: Mapping[int, int], names: Iterable[str] = tuple(PEERS)
) -> Iterator[Result]:
    """Run one peer after the other over the first `frames` frames of `topic`, whose true counts are `expected`.

    All environments are there before the first one runs. Exits with an error when a peer does.
    """
    chosen = {name: PEERS[name] for name in names}
    for peer in chosen.values():
        peer.command()
    for name in chosen:
        yield run_peer(name, bootstrap_servers, topic, frames, expected)


def run_peer(name: str, bootstrap_servers: str, topic: str, frames: int, expected: Mapping[int, int]) -> Result:
    """Run one peer, see `run_peers`."""
    peer = PEERS[name]
    own = f"{name}-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        out = Path(scratch) / "result.json"
        flags = ["--bootstrap-servers", bootstrap_servers, "--topic", topic, "--frames", str(frames), "--out", str(out)]
        if peer.publishes:
            create(bootstrap_servers, own)
            flags += durable_flags(own, Path(scratch) / "state")
        command = [*peer.command(), *flags]
        said = Path(scratch) / "said"
        launched_at = time.monotonic()
        with said.open("w") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
        launch_seconds = time.monotonic() - launched_at
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{name} ended with {process.returncode}: {said.read_text(errors='replace').strip()[-2000:]}")
        result = json.loads(out.read_text(encoding="utf-8"))
    counts = {int(start): users for start, users in result["counts"].items()}
    if peer.publishes:
        counts = published(bootstrap_servers, own)
    return {
        "peer": name,
        "exact": bool(expected) and counts == dict(expected),
        "rejected": result["rejected"],
        "late": result["late"],
        "settings": result["settings"],
        "frames_per_second": frames / result["seconds"],
        "cpu_us_per_frame": result["cpu_seconds"] / frames * 1e6,
        "launch_seconds": launch_seconds,
        "all_cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1000,
    }


def durable_flags(name: str, state: Path) -> list[str]:
    """What makes a peer keep its state and publish its counts, to a topic of its name."""
    return ["--name", name, "--state", str(state), "--counts", name]


def main() -> None:
    """Print one JSON line for each peer. Exit code 0 only when all are exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap-servers", required=True, metavar="HOST:PORT")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--expected", type=Path, required=True, metavar="FILE")
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"default: {' '.join(PEERS)}")
    arguments = parser.parse_args()
    if unknown := set(arguments.peers) - set(PEERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    counts = json.loads(arguments.expected.read_text(encoding="utf-8"))
    expected = {int(start): users for start, users in counts.items()}
    exact = True
    names = arguments.peers or PEERS
    for result in run_peers(arguments.bootstrap_servers, arguments.topic, arguments.frames, expected, names):
        print(json.dumps(result), flush=True)
        exact &= result["exact"]
    sys.exit(not exact)


if __name__ == "__main__":
    main()
