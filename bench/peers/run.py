"""Run the peers, programs that do the project's job with other stream engines, on a topic that is filled already.

    python bench/peers/run.py --bootstrap-servers localhost:9092 --topic feed --frames 1000000 --expected counts.json

Each has a virtual environment of its own, bench/.venvs/NAME, made from requirements-NAME.txt when it is missing or
another one. `counts.json` holds the true counts: {"1704116220": 1234, …}.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypedDict

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parent / ".venvs"


class Peer(NamedTuple):
    """A program, the environment it needs, and its flags."""

    environment: str
    script: str
    flags: tuple[str, ...] = ()


class Result(TypedDict):
    """What one peer did. CPU of a frame is that of its process from the first frame to the last.

    The last three are those of the whole process, from its launch to its end.
    """

    peer: str
    exact: bool
    frames_per_second: float
    cpu_us_per_frame: float
    launch_seconds: float
    all_cpu_seconds: float
    peak_mb: float


PEERS = {
    "bytewax": Peer("bytewax", "bytewax_count.py"),
    "quix-direct": Peer("quix", "quix.py", ("--shape", "direct")),
    "quix-rekeyed": Peer("quix", "quix.py", ("--shape", "rekeyed")),
    "faust": Peer("faust", "faust_count.py"),
}


def run_peers(
    bootstrap_servers: str, topic: str, frames: int, expected: Mapping[int, int], names: Iterable[str] = tuple(PEERS)
) -> Iterator[Result]:
    """Run one peer after the other over the first `frames` frames of `topic`, whose true counts are `expected`.

    All environments are there before the first one runs. Exits with an error when a peer does.
    """
    chosen = {name: PEERS[name] for name in names}
    for environment in {peer.environment for peer in chosen.values()}:
        _prepare(environment)
    for name in chosen:
        yield run_peer(name, bootstrap_servers, topic, frames, expected)


def run_peer(name: str, bootstrap_servers: str, topic: str, frames: int, expected: Mapping[int, int]) -> Result:
    """Run one peer, see `run_peers`."""
    peer = PEERS[name]
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "result.json"
        flags = ["--bootstrap-servers", bootstrap_servers, "--topic", topic, "--frames", str(frames), "--out", str(out)]
        command = [_prepare(peer.environment), str(HERE / peer.script), *flags, *peer.flags]
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
    return {
        "peer": name,
        "exact": bool(expected) and {int(start): users for start, users in result["counts"].items()} == dict(expected),
        "frames_per_second": frames / result["seconds"],
        "cpu_us_per_frame": result["cpu_seconds"] / frames * 1e6,
        "launch_seconds": launch_seconds,
        "all_cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1000,
    }


def _prepare(name: str) -> str:
    """Make the environment unless it is there; return its Python."""
    wanted = HERE / f"requirements-{name}.txt"
    directory = ENVIRONMENTS / name
    made_from = directory / wanted.name
    python = str(directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    if made_from.exists() and made_from.read_text(encoding="utf-8") == wanted.read_text(encoding="utf-8"):
        return python
    print(f"{name}: making {os.path.relpath(directory)}", file=sys.stderr, flush=True)
    venv.create(directory, clear=True, with_pip=True)
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", str(wanted)],
        check=True,
        stdout=sys.stderr,
    )
    shutil.copyfile(wanted, made_from)  # last: an environment without it is not complete
    return python


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
