"""Measure how old a frame is when it shows in `counts`: python bench/latency.py [--rate 1000] [--seconds 60].

Every frame has a user of its own and all lie in one minute, so a published count of N says that the first N frames are
in it. Latency is from a frame's hand-over to the producer to the arrival of the first such count at a consumer, in this
one process, by one clock.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from background import cpu_seconds, latencies, running, send_paced  # noqa: E402

from unique_users.clients.connect import get_consumer  # noqa: E402
from unique_users.config.load import load_config  # noqa: E402
from unique_users.config.schema import Config  # noqa: E402
from unique_users.local_kafka.broker import LocalKafka, free_port  # noqa: E402

SETTLE_SECONDS = 5.0
PATIENCE_SECONDS = 30.0
FRAME = '{"uid":"%019x","ts":1468244384,"padding":"' + "x" * 1_950 + '"}'


def main() -> None:
    """Print p50, p99 and the largest latency, in seconds, and what the scripts took of a core meanwhile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=1_000, help="frames a second")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--client", default="kafka-python")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        place = Path(directory)
        with LocalKafka("4.3.1", place / "kafka", free_port()) as kafka:
            sets = [f"kafka.bootstrap_servers={kafka.bootstrap_servers}", f"client={arguments.client}"]
            sets += [f"state.directory={place / 'state'}"]
            config = load_config(str(ROOT / "config.yaml"), sets)
            with running(sets, "bucketer", "counter") as processes:
                time.sleep(SETTLE_SECONDS)
                before = cpu_seconds(processes)
                found = measure(config, arguments.rate * arguments.seconds, arguments.rate)
                cpu = [after - at_first for after, at_first in zip(cpu_seconds(processes), before, strict=True)]
    cuts = statistics.quantiles(found, n=100)
    print(
        f"{arguments.client}, {arguments.rate:,} frames/s, publish_seconds {config.counter.publish_seconds:g}:"
        f" p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s, largest {max(found):.2f} s;"
        f" of a core: bucketer {cpu[0] / arguments.seconds:.1%}, counter {cpu[1] / arguments.seconds:.1%}"
    )


def measure(config: Config, frames: int, rate: int) -> list[float]:
    """The latency of each frame."""
    seen: list[tuple[float, int]] = []
    watcher = threading.Thread(target=watch, args=(config, frames, seen), daemon=True)
    watcher.start()
    sent = send_paced(config, rate, frames, lambda number: FRAME % number)
    watcher.join(PATIENCE_SECONDS)
    found = latencies(seen, sent)
    if len(found) != frames:
        sys.exit(f"{frames - len(found)} of {frames} frames did not show in {config.topics.counts.name}")
    return found


def watch(config: Config, frames: int, seen: list[tuple[float, int]]) -> None:
    """Note when each count arrives, until it is `frames`."""
    consumer = get_consumer(config, config.topics.counts.name, "latency")
    while not seen or seen[-1][1] < frames:
        polled = consumer.poll(0.02)
        for partition in polled.assigned:
            consumer.seek(partition, 0)
        for batch in polled.batches:
            now = time.monotonic()
            seen += [(now, json.loads(value or b"{}")["unique_users"]) for value in batch.values]
    consumer.close()


if __name__ == "__main__":
    main()
