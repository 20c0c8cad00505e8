"""How long a newcomer waits: each step from a clone to `exact`, with empty caches of pip and of Kafka's jars.

    python bench/newcomer.py --runs 3

Prints a table: the seconds of each step, the median of the runs. Each run has a clone and a home folder of its own.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]

# What the README says, word by word; SOURCE is this repository, WHEEL the wheel in dist.
PATHS = {
    "make": ["git clone --quiet SOURCE unique-users", "make setup", "make demo", "make demo"],
    "venv": [
        "git clone --quiet SOURCE unique-users",
        "python3 -m venv .venv",
        ".venv/bin/pip install --quiet --require-hashes -r requirements.txt",
        ".venv/bin/pip install --quiet --no-deps -e .",
        ".venv/bin/unique-users demo",
        ".venv/bin/unique-users demo",
    ],
    "wheel": [
        "python3 -m venv .venv",
        ".venv/bin/pip install --quiet 'WHEEL[local,dashboard]'",
        ".venv/bin/unique-users demo",
        ".venv/bin/unique-users demo",
    ],
}


def main() -> None:
    """Walk each path, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--paths", default=",".join(PATHS), help="some of them; default: %(default)s")
    arguments = parser.parse_args()
    wheels = list((ROOT / "dist").glob("*.whl"))
    if len(wheels) != 1:
        sys.exit("error: build the wheel first: make dist")
    for path in arguments.paths.split(","):
        runs = [walk(path, wheels[0]) for _ in range(arguments.runs)]
        medians = [median(seconds) for seconds in zip(*runs, strict=True)]
        for step, seconds in zip(PATHS[path], medians, strict=True):
            print(f"| {path} | `{step}` | {seconds:.1f} |", flush=True)
        print(f"| {path} | together | {sum(medians):.1f} |", flush=True)


def walk(path: str, wheel: Path) -> list[float]:
    """Follow a path once. Returns the seconds of its steps."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        folder = Path(directory)
        (folder / "home").mkdir()
        environment = {**os.environ, "HOME": str(folder / "home"), "PIP_NO_CACHE_DIR": "1"}
        environment.pop("PYTHONPATH", None)
        environment.pop("XDG_CACHE_HOME", None)
        seconds = []
        for step in PATHS[path]:
            clone = folder / "unique-users"
            line = step.replace("SOURCE", ROOT.as_uri()).replace("WHEEL", str(wheel))
            begin = time.monotonic()
            done = subprocess.run(
                ["bash", "-c", line],
                cwd=clone if clone.exists() else folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            seconds.append(time.monotonic() - begin)
            if done.returncode or ("demo" in step and "\nexact: " not in done.stdout):
                sys.exit(f"error: `{step}` ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return seconds


if __name__ == "__main__":
    main()
