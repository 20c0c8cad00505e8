"""Measure how near counts are to the truth: exact ones before all frames are in, estimated ones when they are.

python bench/accuracy.py                  all three parts: 3 minutes
python bench/accuracy.py --only arrivals  how much of a minute is known at its end and after it
python bench/accuracy.py --only errors    the errors of estimates, their bounds and their size
python bench/accuracy.py --only growth    whether the estimate of a growing set ever goes down
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402

from unique_users.aggregation.counts import Estimate, sketch_checksum  # noqa: E402
from unique_users.aggregation.sketches import DEVIATIONS, LG_K, Sketch  # noqa: E402

SEEDS = 20
USERS = (10_000, 1_000_000, 10_000_000)
CHUNK = 100_000
SKETCHES_HELD = 2_000

FRAMES_A_MINUTE = 60_000
USERS_IN_ALL = 100_000
LATE_SHARE = 0.001
LATE_FROM_SECONDS = 5
LATE_MEAN_SECONDS = 60
MOMENTS = (0, 5, 60)  # seconds after the minute's end

Delay = Callable[[Random], float]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["arrivals", "errors", "growth"])
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of the errors up to 10,000,000 users, default: 20")
    arguments = parser.parse_args()
    if arguments.only in {None, "arrivals"}:
        print_arrivals()
    if arguments.only in {None, "errors"}:
        print_errors(arguments.seeds)
        print_size()
    if arguments.only in {None, "growth"}:
        print_growth()


def even(random: Random) -> float:
    """Seconds that a frame in time takes: anything up to 5, all equally often."""
    return random.uniform(0, LATE_FROM_SECONDS)


def quick(random: Random) -> float:
    """Seconds that a frame in time takes: half a second in the mean."""
    return min(random.expovariate(2), LATE_FROM_SECONDS)


def print_arrivals() -> None:
    """The share of a minute's final count that is known at its end and after it."""
    print(
        f"{FRAMES_A_MINUTE:,} frames a minute of {USERS_IN_ALL:,} users; {LATE_SHARE:.1%} come {LATE_FROM_SECONDS} s +"
        f" exponential (mean {LATE_MEAN_SECONDS} s) after their time, the others within {LATE_FROM_SECONDS} s;"
        f" {SEEDS} minutes, mean and lowest"
    )
    for in_time in (even, quick):
        minutes = [known(Random(seed), in_time) for seed in range(SEEDS)]
        for moment, shares in zip(MOMENTS, zip(*minutes, strict=True), strict=True):
            mean, lowest = sum(shares) / SEEDS, min(shares)
            print(f"  {in_time.__name__:6} {moment:3} s after the end: {mean:8.3%}  {lowest:8.3%}")


def known(random: Random, in_time: Delay) -> list[float]:
    """For each moment, the share of the users of one minute of whom a frame has come."""
    first_seen: dict[int, float] = {}
    for _ in range(FRAMES_A_MINUTE):
        user, ts = int(random.random() * USERS_IN_ALL), random.uniform(0, 60)
        late = random.random() < LATE_SHARE
        arrived = ts + (LATE_FROM_SECONDS + random.expovariate(1 / LATE_MEAN_SECONDS) if late else in_time(random))
        first_seen[user] = min(arrived, first_seen.get(user, math.inf))
    return [sum(arrived <= 60 + moment for arrived in first_seen.values()) / len(first_seen) for moment in MOMENTS]


def print_errors(seeds: int) -> None:
    """The errors of estimates at each number of users."""
    print(f"CPC, lg_k {LG_K}, bounds at {DEVIATIONS} deviations: rms and largest error, how often the bounds hold")
    growing = [list(estimates(seed)) for seed in range(seeds)]
    for count, found in zip(USERS, zip(*growing, strict=True), strict=True):
        print_error(count, found)
    print_error(USERS[0], [next(estimates(seed)) for seed in range(100, 1_100)])


def estimates(seed: int) -> Iterator[Estimate]:
    """One growing set of users, estimated at each number of them."""
    sketch = Sketch()
    for known_already, count in pairwise((0, *USERS)):
        for first in range(known_already, count, CHUNK):
            sketch.add([f"{seed:04x}{user:015x}" for user in range(first, min(first + CHUNK, count))])
        yield sketch.estimate()


def print_error(count: int, found: "tuple[Estimate, ...] | list[Estimate]") -> None:
    """One line of the table."""
    errors = [estimate.unique_users / count - 1 for estimate in found]
    rms = math.sqrt(sum(error * error for error in errors) / len(errors))
    held = sum(estimate.lower <= count <= estimate.upper for estimate in found)
    print(f"  {count:10,} users  rms {rms:.2%}  largest {max(map(abs, errors)):.2%}  held {held:,} of {len(found):,}")


def print_size() -> None:
    """What a sketch of 10,000,000 users takes."""
    sketch = Sketch()
    for first in range(0, USERS[-1], CHUNK):
        sketch.add([f"{user:019x}" for user in range(first, first + CHUNK)])
    data = sketch.to_bytes()
    before = psutil.Process().memory_info().rss
    held = [Sketch.from_bytes(data, sketch_checksum(data)) for _ in range(SKETCHES_HELD)]
    for one in held:
        one.estimate()
    taken = (psutil.Process().memory_info().rss - before) / SKETCHES_HELD
    print(f"  {USERS[-1]:,} users: {len(data):,} bytes saved, {taken:,.0f} bytes of memory for each of {len(held):,}")


def print_growth() -> None:
    """How often the estimate, or a bound, of a growing set changed, and how often it went down."""
    sketch, last, changes, down = Sketch(), Estimate(0, 0, 0), 0, 0
    for user in range(USERS[-1]):
        if sketch.add((f"{user:019x}",)):
            now = sketch.estimate()
            changes += 1
            down += any(after < before for after, before in zip(now, last, strict=True))
            last = now
    print(f"growing to {USERS[-1]:,} users: changed {changes:,} times, went down {down:,} times")


if __name__ == "__main__":
    main()
