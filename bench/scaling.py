"""How many processes a stream needs, from the CPU that was measured for one frame; and how evenly users are spread.

python bench/scaling.py            tables from docs/performance/pipeline.json
python bench/scaling.py --skew     the largest of 64 partitions over their mean, for 1,000,000 uids in several forms
"""

import argparse
import json
import math
import statistics
import sys
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from unique_users.layout import partition_of  # noqa: E402

FIGURES = ROOT / "docs/performance/pipeline.json"
RATES = (10_000, 1_000_000, 10_000_000)
LOAD_MAX = 0.6  # of a core, so that a process catches up after a pause
UIDS = 1_000_000
PARTITIONS = 64


def costs(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The median CPU of a frame in µs, by variant and script."""
    found: dict[str, dict[str, list[float]]] = {}
    for run in results["pipeline"]:
        of_variant = found.setdefault(run["variant"], {"bucketer": [], "counter": [], "broker": []})
        for script in ("bucketer", "counter"):
            of_variant[script].append(run[script]["cpu_seconds"] / run["frames"] * 1e6)
        of_variant["broker"].append(run["broker_cpu_seconds"] / run["frames"] * 1e6)
    return {name: {what: statistics.median(us) for what, us in by.items()} for name, by in found.items()}


def processes(us_per_frame: float, frames_per_second: int) -> int:
    """How many processes of one thread keep up, each with `LOAD_MAX` of a core."""
    return math.ceil(us_per_frame * frames_per_second / 1e6 / LOAD_MAX)


def model() -> Iterable[str]:
    """The table, in Markdown. A partition has one reader, so these are the least partitions as well."""
    yield "| variant | frames/s | bucketers = partitions of feed | counters = partitions of bucketed | brokers' cores |"
    yield "|---|---|---|---|---|"
    for variant, us in costs(json.loads(FIGURES.read_text())).items():
        for rate in RATES:
            needed = " | ".join(f"{processes(us[what], rate):,}" for what in ("bucketer", "counter", "broker"))
            yield f"| {variant} | {rate:,} | {needed} |"


def skew() -> Iterable[str]:
    """The table of how even CRC-32 spreads uids, in Markdown."""
    draw = Random(1)
    forms: dict[str, Iterable[str]] = {
        "19 random hex digits": (f"{draw.getrandbits(76):019x}" for _ in range(UIDS)),
        "UUIDs": (str(uuid.UUID(int=draw.getrandbits(128))) for _ in range(UIDS)),
        "numbers in a row": map(str, range(UIDS)),
        "user-0000001 and so on": (f"user-{number:07d}" for number in range(UIDS)),
        "e-mail addresses": (f"user{number}@example.com" for number in range(UIDS)),
    }
    yield f"| uids | largest of {PARTITIONS} over mean | smallest over mean |"
    yield "|---|---|---|"
    for form, uids in forms.items():
        sizes = Counter(partition_of(uid, PARTITIONS) for uid in uids)
        largest, smallest = (pick(sizes.values()) / (UIDS / PARTITIONS) for pick in (max, min))
        yield f"| {form} | {largest:.3f} | {smallest:.3f} |"


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skew", action="store_true")
    print("\n".join(skew() if parser.parse_args().skew else model()))


if __name__ == "__main__":
    main()
