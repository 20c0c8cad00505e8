"""Time the pipeline: real scripts, a real broker, generated frames of 2 KB, and whether the counts are exact.

    python bench/pipeline.py                                   1,000,000 frames, every client in both shapes, once
    python bench/pipeline.py --runs 5 --peers bytewax,quix-rekeyed --peers-once faust --json FILE --plot FILE.svg
                                                               medians, and other engines in turn with ours
    python bench/pipeline.py --only librdkafka --frames 10000000 -- counter.save_seconds=1
    python bench/pipeline.py --runs 5 --only "one record" --intervals --users 10000000
                                                               minute alone, all intervals, and some of these estimated
                                                               in turn; with so many users most frames bring a new one
    python bench/pipeline.py --runs 5 --against ../before      these scripts, and in turn those of another checkout
    python bench/pipeline.py --runs 5 --partitions 2           one partition and two in turn, with partition_by: uid,
                                                               and as many bucketers and counters as partitions

`feed` is filled once for each number of partitions, with so many frames for each of them, and as many users for each.
In each run bucketers and counters work through it side by side, with state, groups and topics of their own, until the
counters have reported all. The variants take turns, every second time in the opposite order, so that what else the
machine does meets all of them, and what the broker still has to write of the run before as well.

Each engine is measured in two ways. The work: CPU of the bucketers from the line on with which they say that they read,
and of the counters from when they have all partitions, to their ends; and the time from the first record of `bucketed`,
which is written a few milliseconds after its frame was read, to the report with all counts. As a user sees it: the time
from the launch of all processes to the report with all counts, and all CPU of these processes, their start and end
included. Several counters have to share the partitions before the bucketers are launched. Memory is the largest
resident size seen.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench/peers")]

import msgspec  # noqa: E402
import plot  # noqa: E402
from generate import USERS  # noqa: E402
from peer import Frame  # noqa: E402
from pipeline_tables import cost_of_metrics, costs, spread, summary, table  # noqa: E402
from registry import PEERS  # noqa: E402
from runs import bench  # noqa: E402
from variants import COUNTED, VARIANTS  # noqa: E402

from unique_users.demo.sample import frames  # noqa: E402


def main() -> None:
    """Print a table; `--json FILE` keeps the raw figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000, help="for each partition")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", default="", help="variants whose name has this in it")
    parser.add_argument("--partitions", default="", help="spread over so many as well; several with commas between")
    parser.add_argument("--users", type=int, default=USERS, help="for each partition")
    parser.add_argument("--intervals", action="store_true", help="each variant with other intervals as well")
    parser.add_argument("--metrics", action="store_true", help="each variant with metrics, too, scraped every 2 s")
    parser.add_argument("--processes", type=int, help="bucketers, and counters: as many as partitions, or so many")
    parser.add_argument("--against", type=Path, help="another checkout, whose scripts run in turn with these")
    parser.add_argument("--peers", default="", help=f"with commas between: {', '.join(PEERS)}")
    parser.add_argument("--peers-once", default="", help="those too slow to take part in more than the first run")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="of the medians, as SVG")
    parser.add_argument("settings", nargs="*", metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args()
    numbers = [int(number) for number in filter(None, arguments.partitions.split(","))]
    variants = [
        variant._replace(partitions=partitions, processes=processes, counted=counted, metrics=metrics, root=root)
        for variant in VARIANTS
        if arguments.only in str(variant)
        for counted in (COUNTED if arguments.intervals else [""])
        for partitions, processes in [(1, 1), *((number, arguments.processes or number) for number in numbers)]
        for metrics in ([False, True] if arguments.metrics else [False])
        for root in (ROOT, *filter(None, [arguments.against and arguments.against.resolve()]))
    ]
    results: dict[str, Any] = {"cores": os.cpu_count(), "python": sys.version.split()[0]}
    results |= {"decode_us": [], "pipeline": [], "producer": [], "peers": []}
    with bench(arguments.frames, arguments.settings, [1, *numbers], arguments.users) as ready:
        for number in range(arguments.runs):
            results["decode_us"].append(decode_us())
            for client in dict.fromkeys(variant.client for variant in variants if not numbers and not variant.counted):
                results["producer"].append(ready.produce(client))
            for variant in variants if number % 2 == 0 else reversed(variants):
                results["pipeline"].append(ready.run(variant))
                print(f"run {number + 1}: {summary(results['pipeline'][-1])}", file=sys.stderr, flush=True)
            once = arguments.peers_once if number == 0 else ""
            for name in filter(None, f"{arguments.peers},{once}".split(",")):
                results["peers"].append(ready.run_peer(name))
                print(f"run {number + 1}: {results['peers'][-1]}", file=sys.stderr, flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(results, indent=1))
    print(f"msgspec decodes a frame in {statistics.median(results['decode_us']):.1f} µs here\n")
    print(table(results))
    if numbers:
        print(f"\n{spread(results)}")
    if arguments.metrics:
        print(f"\n{cost_of_metrics(results)}")
    if arguments.plot:
        arguments.plot.write_text(
            plot.bars(costs(results, ROOT.name), "CPU of one frame, µs (bucketer and counter together)")
        )


def decode_us() -> float:
    """What msgspec takes to decode uid and ts of one of these frames here and now: how fast the machine is."""
    samples = list(frames(20_000))
    decode = msgspec.json.Decoder(Frame).decode
    started = time.process_time()
    for sample in samples:
        decode(sample)
    return (time.process_time() - started) / len(samples) * 1e6


if __name__ == "__main__":
    main()
