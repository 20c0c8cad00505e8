"""How many partitions, processes, machines and brokers a stream needs, from what was measured; how even it is spread.

python bench/scaling.py            the tables of the model, from the JSON files in docs/performance
python bench/scaling.py --check    its prediction for 1, 2 and 4 partitions beside the measurement
python bench/scaling.py --skew     the largest of 64 partitions over their mean: of uids in several forms, and of
                                   streams with hot users and hot minutes, simulated
"""

import argparse
import json
import math
import statistics
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from kafka.partitioner.default import murmur2  # noqa: E402

from unique_users.messages.partitioning import partition_of  # noqa: E402

FIGURES = ROOT / "docs/performance"
MEASURED = ("scaling-2.json", "scaling-4.json")  # of bench/pipeline.py
RATES = (10_000, 1_000_000, 10_000_000)

# Assumed, not measured: change them to what you have.
LOAD_MAX = 0.6  # of a core or of a wire, so that a process catches up after a pause
CORES = 16  # of a machine, one for each process
NETWORK_BYTES_PER_SECOND = 1.25e9  # of a machine and each direction: 10 Gbit/s
DISK_BYTES_PER_SECOND = 500e6  # that a broker's disk writes
REPLICAS = 3
READERS = 1  # groups that read feed, and bucketed
FEED_COMPRESSION = "lz4"
USERS_A_DAY = 1_000_000_000
MINUTES_OF_A_USER = 10  # of a day in which a user is seen, once in each
PEAK_OVER_MEAN = 3  # of a day's frames
STATE_DAYS = 2  # counter.retention_seconds as it is by default

UIDS = 1_000_000
PARTITIONS = 64
DAY_MINUTES = 1_440
FRAMES = 1_000_000
POLL_FRAMES = 1_000
HOT_SHARE = 0.5


def costs(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The median CPU of a frame in µs, by variant without metrics and script."""
    found: dict[str, dict[str, list[float]]] = {}
    for run in results["pipeline"]:
        if run.get("metrics"):
            continue
        of_variant = found.setdefault(run["variant"], {"bucketer": [], "counter": [], "broker": []})
        for script in ("bucketer", "counter"):
            of_variant[script].append(run[script]["cpu_seconds"] / run["frames"] * 1e6)
        of_variant["broker"].append(run["broker_cpu_seconds"] / run["frames"] * 1e6)
    return {name: {what: statistics.median(us) for what, us in by.items()} for name, by in found.items()}


def read(name: str) -> Any:
    """One of the files of measurements."""
    return json.loads((FIGURES / name).read_text())


class Brokers(NamedTuple):
    """How many brokers each limit asks for."""

    by_cpu: int
    by_network: int
    by_disk: int


def processes(us_per_frame: float, frames_per_second: int) -> int:
    """How many processes of one thread keep up, each with `LOAD_MAX` of a core. A partition has one reader."""
    return math.ceil(us_per_frame * frames_per_second / 1e6 / LOAD_MAX)


def brokers(us_per_frame: float, frames_per_second: int, feed_bytes: float, bucketed_bytes: float) -> Brokers:
    """What `REPLICAS` copies take: each byte comes in for each replica, and goes out to readers and other replicas."""
    written = (feed_bytes + bucketed_bytes) * frames_per_second * REPLICAS
    sent = (feed_bytes + bucketed_bytes) * frames_per_second * (REPLICAS - 1 + READERS)
    # Followers fetch and write as the leader does for a producer: their CPU is taken to be as much.
    cpu = us_per_frame * REPLICAS * frames_per_second / 1e6 / CORES / LOAD_MAX
    network = max(written, sent) / NETWORK_BYTES_PER_SECOND / LOAD_MAX
    disk = written / DISK_BYTES_PER_SECOND / LOAD_MAX
    return Brokers(*(max(REPLICAS, math.ceil(number)) for number in (cpu, network, disk)))


def model() -> Iterable[str]:
    """The tables, in Markdown."""
    footprint = read("footprint.json")
    feed = footprint["feed_bytes_per_frame"][FEED_COMPRESSION]
    yield "| variant | frames/s | bucketers | counters | machines | brokers: CPU, network, disk | MB/s | GB a counter |"
    yield "|---|---|---|---|---|---|---|---|"
    for variant, us in costs(read("pipeline.json")).items():
        bucketed = footprint["bucketed_bytes_per_frame"]["combined" if "combine" in variant else "plain"]
        for rate in (*RATES, PEAK_OVER_MEAN * USERS_A_DAY * MINUTES_OF_A_USER // 86_400):
            bucketers, counters = (processes(us[what], rate) for what in ("bucketer", "counter"))
            machines = math.ceil((bucketers + counters) / CORES)
            limits = brokers(us["broker"], rate, feed, bucketed)
            wire = f"{feed * rate / 1e6:,.0f} + {bucketed * rate / 1e6:,.1f}"
            # The minute that is being counted stays in memory whole: at most a user for each of its frames.
            memory = 60 * rate / counters * footprint["state_memory_bytes_per_entry"] / 1e9
            yield (
                f"| {variant} | {rate:,} | {bucketers:,} | {counters:,} | {machines:,}"
                f" | {limits.by_cpu}, {limits.by_network}, {limits.by_disk} | {wire} | {memory:.2f} |"
            )
    disk = USERS_A_DAY * MINUTES_OF_A_USER * STATE_DAYS * footprint["state_disk_bytes_per_entry"]
    yield ""
    yield f"State of {USERS_A_DAY:,} users a day on disk, all counters together: {disk / 1e9:,.0f} GB"


def check() -> Iterable[str]:
    """CPU of a frame over several partitions, which the model takes to be that over one, in Markdown."""
    yield "| variant | runs | bucketers µs/frame | over one's | counters µs/frame | over one's | frames/s |"
    yield "|---|---|---|---|---|---|---|"
    for name in MEASURED:
        results = read(name)
        found = costs(results)
        for variant, us in found.items():
            alone = found[variant.partition(",")[0]]
            runs = [run for run in results["pipeline"] if run["variant"] == variant]
            rate = statistics.median(run["frames"] / run["seconds"] for run in runs)
            cells = (f"{us[what]:.2f} | {us[what] / alone[what]:.2f}" for what in ("bucketer", "counter"))
            yield f"| {variant} | {len(runs)} | {' | '.join(cells)} | {rate:,.0f} |"


def skew() -> Iterable[str]:
    """The tables of how even users and streams are spread, in Markdown."""
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
    yield ""
    yield from streams(draw)


Frame = tuple[int, str]  # minute and uid


def streams(draw: Random) -> Iterable[str]:
    """The largest partition over the mean for simulated streams, by what is counted and both `partition_by`."""
    even: Sequence[int] = [number * DAY_MINUTES // FRAMES for number in range(FRAMES)]
    # In the middle of the day, half of its frames.
    hot = [DAY_MINUTES // 2 if abs(n / FRAMES - 0.5) < HOT_SHARE / 2 else even[n] for n in range(FRAMES)]
    uids = [f"{draw.getrandbits(76):019x}" for _ in range(UIDS)]
    anyone = draw.choices(uids, k=FRAMES)
    zipf = draw.choices(uids, cum_weights=list(accumulate(1 / rank for rank in range(1, UIDS + 1))), k=FRAMES)
    one = [uids[0] if draw.random() < 0.1 else uid for uid in anyone]  # noqa: PLR2004
    cases = {
        "a day, replayed": zip(even, anyone, strict=True),
        "the same, half of its frames in one minute": zip(hot, anyone, strict=True),
        "one minute, live": zip([0] * FRAMES, anyone, strict=True),
        "one minute, users by Zipf's law": zip([0] * FRAMES, zipf, strict=True),
        "one minute, one user with a tenth of the frames": zip([0] * FRAMES, one, strict=True),
    }
    yield "| 1,000,000 frames, 1,000,000 users | partition_by | frames | entries with `combine` | users to hold |"
    yield "|---|---|---|---|---|"
    for name, frames in cases.items():
        rows = list(frames)
        polls = [frame for start in range(0, FRAMES, POLL_FRAMES) for frame in set(rows[start : start + POLL_FRAMES])]
        for by, place in PLACES.items():
            spread = " | ".join(f"{largest(some, place):.2f}" for some in (rows, polls, set(rows)))
            yield f"| {name} | {by} | {spread} |"


def by_bucket(frame: Frame) -> int:
    """As Kafka's own clients place a key."""
    return (int(murmur2(b"%d" % (frame[0] * 60))) & 0x7FFFFFFF) % PARTITIONS


def by_uid(frame: Frame) -> int:
    """As the bucketer places a user."""
    return partition_of(frame[1], PARTITIONS)


PLACES: dict[str, Callable[[Frame], int]] = {"bucket": by_bucket, "uid": by_uid}


def largest(frames: Iterable[Frame], place: Callable[[Frame], int]) -> float:
    """The largest partition over the mean."""
    known: dict[int | str, int] = {}
    which = 0 if place is by_bucket else 1
    sizes: Counter[int] = Counter()
    for frame in frames:
        key = frame[which]
        if key not in known:
            known[key] = place(frame)
        sizes[known[key]] += 1
    return max(sizes.values()) / (sizes.total() / PARTITIONS)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skew", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    print("\n".join(skew() if arguments.skew else check() if arguments.check else model()))


if __name__ == "__main__":
    main()
