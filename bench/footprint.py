"""Bytes of a frame on the way: in feed with each compression, in bucketed in both forms, and in the counter's state.

Also of a count in `counts` and of a dead letter; and at the end what the topics take in a year, as a table.

    python bench/footprint.py --json docs/performance/footprint.json

A broker keeps batches as they came and sends them so, thus what a topic takes on disk is what crosses the network once
for each producer, consumer and replica, but for some tens of bytes of each request.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench"), str(ROOT / "bench/peers")]

from generate import SECONDS, USERS  # noqa: E402

from unique_users.clients.connect import get_admin, get_producer  # noqa: E402
from unique_users.commands.published import read_published  # noqa: E402
from unique_users.config.load import load_config  # noqa: E402
from unique_users.config.schema import Topic  # noqa: E402
from unique_users.demo.sample import frames  # noqa: E402
from unique_users.event_time.buckets import Bucket, Calendar  # noqa: E402
from unique_users.local_kafka.broker import LocalKafka, free_port  # noqa: E402
from unique_users.messages.counts import encode_count  # noqa: E402

FRAMES = 100_000
MINUTES_KEPT = 400 * 1_440  # by default, see counter.publish_keep_days
COUNTS_ALONE = 1_000
RATE = 1_000  # frames a second, of which 1 % are rejected
DAY = 86_400
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
    print("\n".join(year(found)))
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
        **of_counts_and_letters(scratch, broker),
        "feed_bytes_per_frame": feed,
        "bucketed_bytes_per_frame": bucketed,
        "entries": entries,
        "state_disk_bytes_per_entry": size / entries,
        "state_memory_bytes_per_entry": memory(entries),
    }


def of_counts_and_letters(scratch: Path, broker: str) -> dict[str, float]:
    """The bytes of a count in a record of its own, as in a live stream, and of a dead letter; and how fast counts read.

    What is read are all minutes that `counts` keeps by default.
    """
    letters = ["topics.feed.name=bad", "topics.rejected.name=letters", "bucketer.group=bad", "frame.uid=nobody"]
    script(broker, "producer.py", letters, str(scratch / "stream"))
    script(broker, "bucketer.py", letters, "--until-caught-up")
    config = load_config("", [f"kafka.bootstrap_servers={broker}", "topics.counts.name=counts-many"])
    with closing(get_admin(config)) as admin, closing(get_producer(config)) as producer:
        for name in ("counts-alone", "counts-many"):
            admin.create(Topic(name=name, settings={"cleanup.policy": "compact"}))
        for number in range(MINUTES_KEPT):
            users = 40_000 + number % 10_000
            bucket = Bucket("minute", 1_468_244_340 + 60 * number)
            generation, at_end = "20260101T120000Z-8c6f7a3e", users - number % 100
            key, value = encode_count(bucket, 0, users, Calendar(), generation=generation, at_end=at_end)
            producer.send("counts-many", value, key)
            if number < COUNTS_ALONE:
                producer.flush(10)
                producer.send("counts-alone", value, key)
                producer.flush(10)
        producer.flush(60)
    started = time.perf_counter()
    assert len(read_published(config).merged()) == MINUTES_KEPT
    return {
        "counts_bytes_alone": stored(scratch, "counts-alone") / COUNTS_ALONE,
        "counts_read_seconds": round(time.perf_counter() - started, 1),
        "rejected_bytes_per_letter": stored(scratch, "letters") / FRAMES,
    }


def year(found: dict[str, Any]) -> list[str]:
    """What each topic takes at RATE frames a second: what comes in a year, and what stays by default; as a table.

    A count of the open minute is published each second. Compaction begins when as much is new as was kept, and leaves
    out the segment of the day.
    """
    frames_a_day = RATE * DAY
    feed, bucketed = found["feed_bytes_per_frame"]["lz4"], found["bucketed_bytes_per_frame"]["plain"]
    letter, count = found["rejected_bytes_per_letter"], found["counts_bytes_alone"]
    rows = [
        ("feed", feed, frames_a_day * feed, 7 * frames_a_day * feed),
        ("bucketed", bucketed, frames_a_day * bucketed, 7 * frames_a_day * bucketed),
        ("counts", count, DAY * count, (2 * MINUTES_KEPT + DAY) * count),
        ("rejected", letter, frames_a_day * letter / 100, 30 * frames_a_day * letter / 100),
    ]
    return [
        f"| `{n}` | {size:,.0f} | {day * 365 / 1e9:,.1f} GB | {kept / 1e9:,.1f} GB |" for n, size, day, kept in rows
    ]


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
