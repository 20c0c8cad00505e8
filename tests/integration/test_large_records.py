"""Records that fit nowhere, and batches that unpack to too much: the feed goes on, in bounded memory."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import psutil
import pytest
from bombs import send_bomb
from brokers import config_for
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from patience import until
from running import CLIENT, Running

from unique_users.clients.connect import get_admin, get_producer
from unique_users.commands.counter import new_publisher
from unique_users.config.schema import Topic
from unique_users.messages.dead_letters import DeadLetter
from unique_users.messages.frame import Reason

pytestmark = pytest.mark.slow

MINUTE = 1_468_244_340
MEBIBYTE = 1 << 20
# Without a bound one batch took 2.7 GB with kafka-python.
RSS_BYTES_MAX = 400_000_000


def frame(uid: str, text: str = "") -> bytes:
    return json.dumps({"uid": uid, "ts": MINUTE, "text": text}).encode()


def make(running: Running, topic: str, **settings: str | int) -> str:
    """Make a topic beforehand, and return its name."""
    admin = get_admin(config_for(running.broker))
    admin.create(Topic(name=running.topic(topic), settings=dict(settings)))
    admin.close()
    return running.topic(topic)


def send(running: Running, *values: bytes, compression: str = "none", topic: str = "feed") -> None:
    producer = get_producer(config_for(running.broker), compression)
    for value in values:
        producer.send(running.topic(topic), value)
    assert producer.flush(60)
    producer.close()


def letters(running: Running) -> list[tuple[bytes, dict[str, str]]]:
    """The values and headers in `rejected`."""
    with KafkaConsumer(bootstrap_servers=running.broker, fetch_max_bytes=1 << 26) as consumer:
        partition = TopicPartition(running.topic("rejected"), 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        (end,) = consumer.end_offsets([partition]).values()
        found: list[tuple[bytes, dict[str, str]]] = []
        while len(found) < end:
            for records in consumer.poll(timeout_ms=1_000).values():
                found += [(r.value, {name: text.decode() for name, text in r.headers}) for r in records]
    return found


def in_bucketed(running: Running) -> int:
    with KafkaConsumer(bootstrap_servers=running.broker) as consumer:
        (end,) = consumer.end_offsets([TopicPartition(running.topic("bucketed"), 0)]).values()
    return int(end)


@contextmanager
def memory_watched() -> Iterator[list[int]]:
    """The resident bytes of the scripts that run meanwhile, as often as they can be looked at."""
    seen: list[int] = [0]
    over = Event()

    def watch() -> None:
        while not over.wait(0.02):
            for child in psutil.Process().children():
                try:
                    if any("bucketer" in part or "counter" in part for part in child.cmdline()):
                        seen.append(child.memory_info().rss)
                except psutil.Error:
                    continue

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    yield seen
    over.set()
    watcher.join()


def test_a_record_larger_than_rejected_takes_is_cut_and_the_feed_goes_on(running: Running) -> None:
    """`rejected` was made beforehand, as the broker makes topics │ frames a HUGE b HUGE-but-compresses c"""
    make(running, "feed", **{"max.message.bytes": 8_388_608})
    make(running, "rejected")
    huge = os.urandom(3 * MEBIBYTE)
    send(running, frame("a"), huge, frame("b"), frame("c", "x" * (9 * MEBIBYTE)), frame("d"), compression="zstd")
    done = running.run("bucketer", "--until-caught-up")
    assert "5 frames read (+5), lag 0" in done.stdout
    assert "5 read = 3 accepted + 2 rejected" in done.stdout
    assert "rejected: too_large 2" in done.stdout
    assert in_bucketed(running) == 3
    (cut, cut_headers), (whole, headers) = letters(running)
    assert huge.startswith(cut)
    assert len(cut) > 1_000_000
    assert {name: cut_headers[name] for name in ("reason", "offset", "bytes_kept", "bytes_total")} == {
        "reason": "too_large",
        "offset": "1",
        "bytes_kept": str(len(cut)),
        "bytes_total": str(len(huge)),
    }
    assert whole == frame("c", "x" * (9 * MEBIBYTE))
    assert "bytes_total" not in headers
    assert running.counts() == {MINUTE: 3}


def test_a_topic_rejected_whose_limit_is_lowered_while_the_bucketer_runs_stops_nothing(running: Running) -> None:
    running.settings = ["bucketer.report_seconds=0.5"]
    feed = make(running, "feed", **{"max.message.bytes": 8_388_608})
    rejected = make(running, "rejected", **{"max.message.bytes": 8_388_608})
    bucketer = running.start("bucketer")
    send(running, frame("a"), os.urandom(2 * MEBIBYTE), compression="lz4")
    until_printed(running, "2 read = 1 accepted + 1 rejected")
    with KafkaAdminClient(bootstrap_servers=running.broker) as admin:
        limit = {"max.message.bytes": "100000"}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, rejected, limit)])
    send(running, os.urandom(2 * MEBIBYTE), frame("b"), compression="lz4")
    until_printed(running, "4 read = 2 accepted + 2 rejected")
    assert running.end(bucketer) == 0
    assert in_bucketed(running) == 2
    (_, first), (cut, second) = letters(running)
    assert "bytes_total" not in first
    assert 90_000 < len(cut) < 100_000
    assert second["bytes_total"] == str(2 * MEBIBYTE)
    assert feed


@pytest.mark.parametrize("codec", ["zstd", "gzip", "lz4", "snappy"])
@pytest.mark.parametrize("records", [1, 300])
def test_a_batch_of_kilobytes_that_unpacks_to_400_mb_is_passed_in_bounded_memory(
    running: Running, codec: str, records: int
) -> None:
    # 400 MB take 20 MB as snappy.
    feed = make(running, "feed", **{"max.message.bytes": 8_388_608 if codec != "snappy" else 33_554_432})
    send(running, frame("a"))
    send_bomb(running.broker, feed, codec, records=records)
    send(running, frame("b"))
    with memory_watched() as seen:
        done = running.run("bucketer", "--until-caught-up")
    assert f"{records + 2:,} read = 2 accepted + {records:,} rejected" in done.stdout
    assert f"rejected: too_large {records}\n" in done.stdout
    assert ", lag 0\n" in done.stdout
    found = letters(running)
    assert [int(headers["offset"]) for _, headers in found] == list(range(1, records + 1))
    assert {headers["reason"] for _, headers in found} == {"too_large"}
    assert in_bucketed(running) == 2
    if CLIENT == "kafka-python" or codec == "zstd":  # of the others librdkafka unpacks all, whatever it is
        assert max(seen) < RSS_BYTES_MAX
        assert {value for value, _ in found} == {b""}
        assert f"{feed}-0: skipping offsets 1 to {records}: " in done.stderr


def test_the_counter_passes_such_a_batch_too_and_says_so(running: Running) -> None:
    send_frames = [frame("a"), frame("b")]
    make(running, "feed")
    send(running, send_frames[0])
    running.run("bucketer", "--until-caught-up")
    send_bomb(running.broker, running.topic("bucketed"), "zstd")
    send(running, send_frames[1])
    running.run("bucketer", "--until-caught-up")
    with memory_watched() as seen:
        done = running.run("counter", "--until-caught-up")
    assert max(seen) < RSS_BYTES_MAX
    assert "2 unique users" in done.stdout
    assert "1 unreadable messages skipped" in done.stdout
    assert f"{running.topic('bucketed')}-0: skipping offsets 1 to 1: " in done.stderr


def test_a_topic_bucketed_that_takes_nothing_is_refused_with_the_way_out(running: Running) -> None:
    bucketed = make(running, "bucketed", **{"max.message.bytes": 1_000})
    said = running.run("bucketer", "--until-caught-up", code=1).stderr
    assert f"topic {bucketed!r} has max.message.bytes=1000, which is less than one record may need: set it to" in said
    assert len(said.strip().splitlines()) == 1


def test_combined_records_fit_a_topic_that_takes_little(running: Running) -> None:
    running.settings = ["bucketer.combine=true"]
    make(running, "bucketed", **{"max.message.bytes": 10_000})
    running.run("producer", "-", stdin=b"\n".join(frame(f"user-{number}") for number in range(5_000)))
    assert running.counts() == {MINUTE: 5_000}
    assert in_bucketed(running) < 30


def until_printed(running: Running, text: str) -> None:
    """Wait until the bucketer has printed it."""
    until(lambda: text in running.said("bucketer", "out"), lambda: f"{text}: {running.said('bucketer', 'out')}")


def test_the_producer_sends_a_line_that_feed_does_not_take_to_rejected_cut_where_that_takes_less(
    running: Running,
) -> None:
    make(running, "feed")
    make(running, "rejected", **{"max.message.bytes": 100_000})
    huge = os.urandom(2 * MEBIBYTE).replace(b"\n", b"-").replace(b"\r", b"-")
    done = running.run("producer", "-", stdin=b"\n".join([frame("a"), huge, frame("b")]))
    assert "2 frames acknowledged, 1 lines too long for Kafka, sent to rejected" in done.stderr
    ((kept, headers),) = letters(running)
    assert huge.startswith(kept)
    assert headers["bytes_total"] == str(len(huge))
    assert running.counts() == {MINUTE: 2}


def test_a_late_record_that_rejected_does_not_take_is_cut_by_the_counter_too(running: Running) -> None:
    rejected = make(running, "rejected", **{"max.message.bytes": 5_000})
    make(running, "counts", **{"cleanup.policy": "compact"})
    topics = {"rejected": {"name": rejected}, "counts": {"name": running.topic("counts")}}
    publisher = new_publisher(config_for(running.broker, topics=topics, client=CLIENT))
    value = b'{"uids":["%b"]}' % os.urandom(30_000).hex().encode()
    letter = DeadLetter(Reason.LATE, "its minute is closed", running.topic("bucketed"), 0, 7, value, b"%d" % MINUTE)
    assert publisher.reject([letter], 60)
    publisher.close()
    ((kept, headers),) = letters(running)
    assert value.startswith(kept)
    assert (headers["reason"], headers["bytes_total"]) == ("late", str(len(value)))
