"""Run the fault matrix: python tests/faults/matrix.py [--rows 1,3,8] [--times 5] [--seed N] [--short]."""

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import SystemRandom
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from harness import Run, end_in_order_when_terminated, execute, new_broker
from rows import ROWS

HEAD = "| # | fault | runs | times injected | kills | frames | lost | extra | at most | verdict |\n" + "|---" * 10 + "|"


def main(argv: Sequence[str]) -> int:
    """Exit code 1 when any run failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default=",".join(map(str, sorted(ROWS))), help="numbers with commas between")
    parser.add_argument("--times", type=int, default=5, help="runs of each row, from different seeds (default: 5)")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1_000_000), help="of the first run")
    parser.add_argument("--short", action="store_true", help="the form that `make test` and `make faults-short` run")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table here too")
    arguments = parser.parse_args(argv)
    end_in_order_when_terminated()
    numbers = [int(number) for number in arguments.rows.split(",")]
    say(f"seed {arguments.seed}, rows {arguments.rows}, {arguments.times} times")
    with TemporaryDirectory(prefix="faults-") as directory:
        lines = run_all(numbers, arguments.times, arguments.seed, Path(directory), full=not arguments.short)
    table = "\n".join([HEAD, *(line for _, line in sorted(lines.items()) if line)])
    print(table)
    if arguments.markdown:
        arguments.markdown.write_text(table + "\n", encoding="utf-8")
    return 1 if "FAILED" in table else 0


def run_all(numbers: Sequence[int], times: int, seed: int, directory: Path, *, full: bool) -> dict[int, str]:
    """The table's line of each row. Rows that do nothing but wait run beside each other at the end."""
    lines = {}
    with new_broker(directory / "kafka") as kafka:
        for number in sorted(numbers, key=lambda number: (ROWS[number].idle, number)):
            runs = [Run(directory / f"row{number}-{i}", kafka.bootstrap_servers, seed + i, full) for i in range(times)]
            if ROWS[number].idle:
                with ThreadPoolExecutor(times) as pool:
                    done = list(pool.map(partial(run_one, number), runs))
            else:
                done = [run_one(number, run) for run in runs]
            lines[number] = table_line(number, done)
    return lines


def run_one(number: int, run: Run) -> Run:
    """Run a row once and say how it went, at once."""
    execute(number, run)
    verdict = "pass" if run.passed else "FAILED"
    say(f"row {number}, seed {run.seed}: {verdict}, {run.injected} injected, {run.frames} frames, {run.seconds:.0f} s")
    say(f"    {'; '.join(sorted(run.layouts))}")
    for what, value in run.measured.items():
        say(f"    {what}: {value:.1f}")
    for problem in run.problems:
        say(f"    {problem}")
    return run


def table_line(number: int, runs: Sequence[Run]) -> str:
    failed = sum(not run.passed for run in runs)
    numbers = (
        len(runs),
        *(sum(getattr(run, what) for run in runs) for what in ("injected", "kills", "frames", "lost", "extra")),
    )
    measured: dict[str, float] = {}
    for run in runs:
        measured |= {what: max(value, measured.get(what, value)) for what, value in run.measured.items()}
    most = ", ".join(f"{value:.1f} {what}" for what, value in sorted(measured.items()))
    verdict = "pass" if runs and not failed else f"FAILED {failed} of {len(runs)}"
    return f"| {number} | {ROWS[number].fault} | " + " | ".join(f"{n:,}" for n in numbers) + f" | {most} | {verdict} |"


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
