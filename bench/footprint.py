"""Bytes of a frame on the way: in feed with each compression, in bucketed in both forms, and in the counter's state.

    python bench/footprint.py --json docs/performance/footprint.json

A broker keeps batches as they came and sends them so, thus what a topic takes on disk is what crosses the network once
for each producer, consumer and replica, but for some tens of bytes of each request.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench"), str(ROOT / "bench/peers")]

from generate import SECONDS, USERS  # noqa: E402

from unique_users.demo.sample import frames  # noqa: E402
from unique_users.local_kafka.broker import LocalKafka, free_port  # noqa: E402

FRAMES = 100_000
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")


def main() -> None:
    """Print the figures as JSON, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        scratch = Path(directory)
        # As many frames in a minute as a million of them have: so many users, so much in a batch.
        lines = list(frames(FRAMES, users=USERS, seconds=SECONDS * FRAMES // 1_000_000))
        (scratch / "stream").write_bytes(b"\n".join(lines) + b"\n")
        with LocalKafka("4.3.1", scratch / "kafka", free_port()) as kafka:
            found = measured(scratch, kafka.bootstrap_servers)
        found["frame_bytes"] = sum(map(len, lines)) / FRAMES
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


def measured(scratch: Path, broker: str) -> dict[str, Any]:
    """The bytes of a frame in each topic, and of an entry in the state."""
    feed = {}
    for compression in COMPRESSIONS:
        topic = f"feed-{compression}"  # librdkafka brings all of them; kafka-python needs a package for snappy
        names = [f"topics.feed.name={topic}", f"producer.compression={compression}", "client=librdkafka"]
        script(broker, "producer.py", names, str(scratch / "stream"))
        feed[compression] = stored(scratch, topic) / FRAMES
    bucketed = {}
    for combine in ("false", "true"):
        names = [
            "topics.feed.name=feed-lz4",
            f"bucketer.group=combine-{combine}",
            f"topics.bucketed.name=bucketed-{combine}",
        ]
        names += [f"bucketer.combine={combine}", "bucketer.allowed_lateness_seconds=0", "counter.retention_seconds=0"]
        script(broker, "bucketer.py", names, "--until-caught-up")
        bucketed["combined" if combine == "true" else "plain"] = stored(scratch, f"bucketed-{combine}") / FRAMES
    state = scratch / "state"
    names = ["topics.bucketed.name=bucketed-false", f"state.directory={state}", "counter.save_seconds=1"]
    lines = script(broker, "counter.py", names, "--until-caught-up", "--format", "json")
    entries = sum(json.loads(line).get("unique_users", 0) for line in lines.splitlines())
    size = sum(file.stat().st_size for file in state.glob("*.sqlite"))
    return {
        "frames": FRAMES,
        "feed_bytes_per_frame": feed,
        "bucketed_bytes_per_frame": bucketed,
        "entries": entries,
        "state_disk_bytes_per_entry": size / entries,
        "state_memory_bytes_per_entry": memory(entries),
    }


def memory(entries: int) -> float:
    """What an entry of a set of uids takes in memory, its text included."""
    import tracemalloc  # noqa: PLC0415  # it slows what is measured above

    tracemalloc.start()
    users = {f"{number * 0x9E3779B97F4A7C15 % (1 << 76):019x}" for number in range(entries)}
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / len(users)


def stored(scratch: Path, topic: str) -> int:
    """The bytes of a topic's records on the broker's disk."""
    return sum(file.stat().st_size for file in (scratch / "kafka").rglob(f"{topic}-0/*.log"))


def script(broker: str, name: str, settings: list[str], *arguments: str) -> str:
    """Run one of the scripts to its end; return its stdout."""
    sets = [part for each in (f"kafka.bootstrap_servers={broker}", *settings) for part in ("--set", each)]
    command = [sys.executable, str(ROOT / name), *arguments, "--config", str(ROOT / "config.yaml"), *sets]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
