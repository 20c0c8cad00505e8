"""The main job, by the real scripts through a real broker."""

import gzip
import json
import os
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from brokers import config_for
from kafka import KafkaAdminClient
from patience import until
from repository import ROOT, command
from running import CLIENT, Running

from unique_users.clients.connect import get_admin, get_consumer, get_record_lookup
from unique_users.clients.protocols import Batch
from unique_users.config.schema import Config
from unique_users.demo.sample import frames as sample_frames
from unique_users.local_kafka.broker import LocalKafka, free_port

# A directory with a stream.gz and the expected.json of its true counts; the generated sample is tested always.
STREAM_DIRECTORY = os.environ.get("STREAM_DIRECTORY")


def sample() -> tuple[bytes, dict[int, int]]:
    """A generated stream and its counts, made without any code of the package but the generator."""
    lines = list(sample_frames(5_000, seed=7))
    users: dict[int, set[str]] = {}
    for frame in map(json.loads, lines):
        users.setdefault(frame["ts"] // 60 * 60, set()).add(frame["uid"])
    return b"\n".join(lines) + b"\n", {start: len(uids) for start, uids in users.items()}


def given_stream() -> tuple[bytes, dict[int, int]]:
    directory = Path(STREAM_DIRECTORY or "")
    expected = json.loads((directory / "expected.json").read_text())["unique_users_per_minute"]
    return gzip.decompress((directory / "stream.gz").read_bytes()), {int(k): v for k, v in expected.items()}


@pytest.fixture(params=[sample, *([given_stream] if STREAM_DIRECTORY else [])], scope="module")
def stream(request: pytest.FixtureRequest) -> tuple[bytes, dict[int, int]]:
    make: Callable[[], tuple[bytes, dict[int, int]]] = request.param
    return make()


def crlf_and_text_times(text: bytes) -> bytes:
    """Windows' line ends, and every root time as a text."""
    return re.sub(rb'"ts":(\d{10})(?=[,}])', rb'"ts":"\1"', text).replace(b"\n", b"\r\n")


def shuffled(text: bytes) -> bytes:
    lines = text.splitlines(keepends=True)
    random.Random(11).shuffle(lines)
    return b"".join(lines)


def twice(text: bytes) -> bytes:
    return text + text


@pytest.mark.parametrize("changed", [bytes, crlf_and_text_times, shuffled, twice], ids=lambda change: change.__name__)
def test_the_counts_are_exact(
    running: Running, stream: tuple[bytes, dict[int, int]], changed: Callable[[bytes], bytes]
) -> None:
    text, expected = stream
    frames = changed(text)
    sent = running.run("producer", "-", stdin=frames)
    assert f"{len(frames.splitlines()):,} frames acknowledged" in sent.stderr
    assert running.counts() == expected
    assert running.recount(frames) == expected
    compared = running.run("recount", "-", "--against", "counts", stdin=frames)
    assert "exact" in compared.stderr


def test_a_published_count_that_differs_is_shown(running: Running, stream: tuple[bytes, dict[int, int]]) -> None:
    text, expected = stream
    running.run("producer", "-", stdin=text)
    running.counts()
    missing_some = b"".join(text.splitlines(keepends=True)[:-300])
    compared = running.run("recount", "-", "--against", "counts", stdin=missing_some, code=1)
    assert re.search(rf"published {max(expected.values()):,}", compared.stdout) or "published" in compared.stdout
    assert "buckets differ" in compared.stderr


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
def test_the_producer_reads_files_of_every_form(
    running: Running, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    text, _ = sample()
    file = tmp_path / "frames"
    file.write_bytes(compress(text))
    assert "5,000 frames acknowledged" in running.run("producer", str(file)).stderr


def test_kafkas_own_console_producer_feeds_the_same_topic(running: Running, tmp_path: Path) -> None:
    text, expected = sample()
    running.run("bucketer", "--until-caught-up")  # makes the topics
    arguments = ["tool", "kafka-console-producer", "--topic", running.topic("feed")]
    line = [*command("broker"), "--set", f"kafka.bootstrap_servers={running.broker}"]
    subprocess.run(
        [*line, "--config", str(ROOT / "config.yaml"), *arguments], input=text, check=True, timeout=120, cwd=tmp_path
    )
    assert running.counts() == expected


def test_kcat_feeds_the_same_topic(running: Running) -> None:
    kcat = shutil.which("kcat")
    if kcat is None and not os.environ.get("CI"):
        pytest.skip("kcat is not installed here; CI has it")
    text, expected = sample()
    running.run("bucketer", "--until-caught-up")
    command = [str(kcat), "-P", "-b", running.broker, "-t", running.topic("feed")]
    subprocess.run(command, input=text, check=True, timeout=120)
    assert running.counts() == expected


def records(running: Running, topic: str, count: int) -> Iterator[tuple[bytes | None, bytes | None]]:
    """The first `count` records of a topic, keys and values."""
    consumer = get_consumer(config_for(running.broker), running.topic(topic), f"{running.name}-test")
    batches: list[Batch] = []

    def have_come() -> bool:
        polled = consumer.poll(0.5)
        for partition in polled.assigned:
            consumer.seek(partition, 0)
        batches.extend(polled.batches)
        return sum(len(batch.values) for batch in batches) >= count

    try:
        until(have_come, lambda: f"{count} records, not {sum(len(batch.values) for batch in batches)}", every=0)
    finally:
        consumer.close()
    for batch in batches:
        yield from zip(batch.keys, batch.values, strict=True)


def test_a_slow_pipe_is_sent_as_it_comes_and_a_stop_does_not_wait_for_more(running: Running) -> None:
    running.run("bucketer", "--until-caught-up")  # makes the topics
    producer = running.start("producer", "-", stdin=subprocess.PIPE)
    assert producer.stdin
    try:
        for frame in (b"one", b"two"):
            producer.stdin.write(f"{frame.decode()}\n")
            producer.stdin.flush()
            assert (None, frame) in list(records(running, "feed", 1 if frame == b"one" else 2))
        assert running.end(producer) == 0
        assert "2 frames acknowledged, stopped before the end" in running.said("producer")
    finally:
        running.end_all()
        producer.stdin.close()


def test_each_accepted_frame_is_one_record_keyed_by_its_minute(running: Running) -> None:
    text, _ = sample()
    running.run("producer", "-", stdin=text)
    running.run("bucketer", "--until-caught-up")
    found = list(records(running, "bucketed", 5_000))
    frames = [json.loads(line) for line in text.splitlines()]
    assert [(key, json.loads(value or b"")) for key, value in found] == [
        (str(frame["ts"] // 60 * 60).encode(), {"uid": frame["uid"], "ts": frame["ts"]}) for frame in frames
    ]


def test_bad_frames_are_rejected_with_their_reason_and_stop_nothing(running: Running) -> None:
    bad = [
        (b"{half", "not_json"),
        (b"[]", "not_an_object"),
        (b'{"ts": 1468244384}', "no_uid"),
        (b'{"uid": 5.5, "ts": 1468244384}', "bad_uid"),
        (b'{"uid": "a"}', "no_ts"),
        (b'{"uid": "a", "ts": "2016-07-11T13:39:44"}', "bad_ts"),
        (b'{"uid": "a", "ts": 7258118400}', "future"),
        (b'{"uid": "a", "ts": 1468244384, "x": "' + b"x" * 2_000_000 + b'"}', "too_large"),
    ]
    text, expected = sample()
    late = b'{"uid": "a", "ts": 1000000000}'
    running.run("producer", "-", stdin=b"\n".join(frame for frame, _ in bad) + b"\n" + text + late + b"\n")
    report = running.run("bucketer", "--until-caught-up").stdout
    reasons = Counter([reason for _, reason in bad] + ["late"])
    assert "5,009 read = 5,000 accepted + 9 rejected" in report
    assert all(f"{reason} {count}" in report for reason, count in reasons.items())
    assert sorted(value or b"" for _, value in records(running, "rejected", 9)) == sorted(
        [frame for frame, _ in bad] + [late]
    )
    assert running.counts() == expected


@pytest.mark.slow
def test_the_scripts_may_start_before_the_broker(tmp_path: Path) -> None:
    text, expected = sample()
    port = free_port()
    running = Running(f"localhost:{port}", tmp_path, ["counter.report_seconds=1"])
    try:
        bucketer, counter = running.start("bucketer"), running.start("counter", "--format", "json")
        waiting = "waiting for a Kafka broker"
        until(lambda: all(waiting in running.said(name) for name in ("bucketer", "counter")), "both to wait")
        with LocalKafka("4.3.1", tmp_path / "kafka", port):
            running.run("producer", "-", stdin=text)
            until(lambda: f'"unique_users":{max(expected.values())}' in running.said("counter", "out"), "all users")
            until(lambda: '"lag":0' in running.said("counter", "out").splitlines()[-1], "no lag")
            assert running.end(bucketer) == 0
            assert running.end(counter) == 0
            assert running.counts() == expected
    finally:
        running.end_all()


@pytest.mark.slow
def test_the_counter_reports_also_when_nothing_came_and_when_the_broker_is_away(tmp_path: Path) -> None:
    kafka = LocalKafka("4.3.1", tmp_path / "kafka", free_port())
    running = Running(kafka.bootstrap_servers, tmp_path, ["counter.report_seconds=1"])
    try:
        kafka.start()
        counter = running.start("counter")
        until(lambda: running.said("counter", "out").count("0 buckets changed, lag 0") > 1, "two idle reports")
        kafka.kill()
        until(
            lambda: running.said("counter", "out").count("no answer from the broker") > 2,
            "three reports without it",
        )
        kafka.start()
        until(lambda: "lag 0" in running.said("counter", "out").rpartition("no answer")[2], "a report with it")
        assert running.end(counter) == 0
    finally:
        running.end_all()
        kafka.stop()


@pytest.mark.slow
def test_it_works_on_kafka_2_4_with_zookeeper(tmp_path: Path) -> None:
    text, expected = sample()
    with LocalKafka("2.4.0", tmp_path / "kafka", free_port()) as kafka:
        running = Running(kafka.bootstrap_servers, tmp_path)
        running.run("producer", "-", stdin=text)
        assert running.counts() == expected
        running.run("producer", "-", stdin=text)
        assert running.counts() == expected
        for client in ("kafka-python", "librdkafka"):
            assert_questions_are_answered(config_for(kafka.bootstrap_servers, client=client), running)


def assert_questions_are_answered(config: Config, running: Running) -> None:
    """Ask what an admin client and a lookup can be asked, of a broker that does not know the newest record's time."""
    topic = running.topic("feed")
    admin, lookup = get_admin(config), get_record_lookup(config, topic)
    ends, committed = admin.high_watermark_offsets(topic), admin.committed(f"{running.name}-bucketer", topic)
    assert {partition: position.offset for partition, position in committed.items()} == ends
    assert admin.newest_ms(topic) == {}
    last = lookup.record_at(0, ends[0] - 1, 30)
    assert last is not None
    assert last.value
    assert lookup.record_at(0, ends[0], 30) is None
    lookup.close()
    admin.close()


ON_TWO_PARTITIONS = [
    *("topics.feed.partitions=2", "topics.bucketed.partitions=2", "bucketer.partition_by=uid"),
    *("kafka.heartbeat_interval_ms=500", "counter.report_seconds=0.5", "bucketer.report_seconds=0.5"),
]
CHANGES = {
    "combined records": ["bucketer.combine=true"],
    "longer retention and faster publishing": [
        *(
            "bucketer.allowed_lateness_seconds=172800",
            "counter.retention_seconds=345600",
            "counter.publish_seconds=0.5",
        ),
    ],
    "the other client": [f"client={'kafka-python' if CLIENT == 'librdkafka' else 'librdkafka'}"],
}


def side_by_side(broker: str, directory: Path, changed: list[str]) -> tuple[Running, Running]:
    """Old and new scripts of the same groups and topics."""
    (directory / "new").mkdir()
    old = Running(broker, directory, ON_TWO_PARTITIONS)
    settings = [*ON_TWO_PARTITIONS, f"state.directory={directory / 'new' / 'state'}", *changed]
    return old, Running(broker, directory / "new", settings, name=old.name)


def partitions_of_counter(running: Running) -> int:
    """How many partitions its last report speaks for."""
    whole = [line for line in running.said("counter", "out").splitlines(keepends=True) if line[-1:] == "\n"]
    reports = map(json.loads, reversed(whole))
    return next((len(report["partitions"]) for report in reports if "report" in report), 0)


def members(broker: str, group: str) -> int:
    with KafkaAdminClient(bootstrap_servers=broker) as admin:
        return len(admin.describe_groups([group])[group]["members"])


def published_exactly(running: Running, text: bytes) -> bool:
    check = running.arguments("recount", "-", "--against", "counts")
    return subprocess.run(check, input=text, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_rolled_through_groups_of_two_and_every_user_is_counted_once(
    broker: str, tmp_path: Path, change: str
) -> None:
    """old and new side by side, a partition each; the old leave."""
    text, _ = sample()
    lines = text.splitlines(keepends=True)
    old, new = side_by_side(broker, tmp_path, CHANGES[change])
    try:
        olds = [old.start("bucketer"), old.start("counter", "--format", "json")]
        old.run("producer", "-", stdin=b"".join(lines[: len(lines) // 3]))
        until(lambda: partitions_of_counter(old) == 2, "both partitions")
        news = [new.start("bucketer"), new.start("counter", "--format", "json")]
        until(lambda: partitions_of_counter(old) == partitions_of_counter(new) == 1, "a partition each")
        old.run("producer", "-", stdin=b"".join(lines[len(lines) // 3 : 2 * len(lines) // 3]))
        assert [old.end(process) for process in olds] == [0, 0]
        new.run("producer", "-", stdin=b"".join(lines[2 * len(lines) // 3 :]))
        until(lambda: published_exactly(old, text), "all counts")
        until(lambda: partitions_of_counter(new) == 2, "both partitions")
        assert [new.end(process) for process in news] == [0, 0]
    finally:
        old.end_all()
        new.end_all()


def test_a_bucketer_with_another_partition_by_stops_and_leaves_the_others_exact(broker: str, tmp_path: Path) -> None:
    text, _ = sample()
    lines = text.splitlines(keepends=True)
    old, new = side_by_side(broker, tmp_path, ["bucketer.partition_by=bucket"])
    try:
        olds = [old.start("bucketer"), old.start("counter", "--format", "json")]
        first = b"".join(lines[: len(lines) // 2])
        old.run("producer", "-", stdin=first)
        until(lambda: published_exactly(old, first), "the first counts")
        refused = new.start("bucketer")
        assert refused.wait(60) == 1
        assert "was written by uid over 2 partitions, now it is to be by bucket" in new.said("bucketer")
        assert members(broker, f"{old.name}-bucketer") == 1  # the others need not wait for its session to run out
        old.run("producer", "-", stdin=b"".join(lines[len(lines) // 2 :]))
        until(lambda: published_exactly(old, text), "all counts")
        assert [old.end(process) for process in olds] == [0, 0]
    finally:
        old.end_all()
        new.end_all()
