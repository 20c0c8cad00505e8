"""Old counts leave `counts` on a real broker: its cleaner deletes them, and no restart brings them back."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from brokers import config_for
from patience import until
from running import CLIENT, Running
from topics_on_broker import TopicsOnBroker

from unique_users.event_time.buckets import Bucket
from unique_users.local_kafka.broker import LocalKafka, free_port
from unique_users.messages.counts import key_of

JUNE = int(datetime(2016, 6, 10, 12, tzinfo=UTC).timestamp())
DAY = 86_400
SETTINGS = [
    "bucketer.allowed_lateness_seconds=86400",
    "counter.retention_seconds=86400",
    "counter.intervals=[minute, day]",
    "counter.publish_keep_days={minute: 10}",
    # Every record begins a segment, and all but the last are compacted at once, tombstones too.
    "topics.counts.settings={segment.ms: 1, min.cleanable.dirty.ratio: 0.01, delete.retention.ms: 0}",
]


@pytest.fixture
def compacting(tmp_path: Path) -> Iterator[Running]:
    """The scripts with a broker of their own that compacts without delay."""
    with LocalKafka("4.3.1", tmp_path / "kafka", free_port(), properties={"log.cleaner.backoff.ms": "100"}) as kafka:
        running = Running(kafka.bootstrap_servers, tmp_path, SETTINGS)
        yield running
        running.end_all()


def frames(start: int, users: range) -> bytes:
    """One frame of each user, in one minute: enough of them move the stream's clock."""
    return b"".join(b'{"uid":"user %d","ts":%d}\n' % (user, start + user % 60) for user in users)


def count(running: Running) -> str:
    running.run("bucketer", "--until-caught-up")
    return running.run("counter", "--until-caught-up").stderr


def keys(running: Running) -> list[bytes | None]:
    """The keys in `counts` as they lie there."""
    topics = TopicsOnBroker(config_for(running.broker, client=CLIENT))
    return [record.key for record in topics.read(running.topic("counts"))]


def test_old_minutes_are_compacted_away_and_stay_away(compacting: Running) -> None:
    """June 10: 600 users | June 30: 600 others | restarts, compaction, a lost state: June 10 has its day alone"""
    running = compacting
    first, second = frames(JUNE, range(600)), frames(JUNE + 20 * DAY, range(600, 1_200))
    old, day = (key_of(Bucket(name, at), 0) for name, at in (("minute", JUNE), ("day", JUNE - JUNE % DAY)))
    running.run("producer", "-", stdin=first)
    count(running)
    assert {old, day} <= {*keys(running)}
    running.run("producer", "-", stdin=second)
    assert "1 counts in" in count(running)
    compared = running.run("recount", "-", "--against", "counts", "--all", stdin=first + second).stderr
    assert "exact: no bucket differs; 1 are older than counter.publish_keep_days and no longer published" in compared
    # The segment that is written to is not compacted: something has to come after the tombstone.
    running.run("producer", "-", stdin=frames(JUNE + 20 * DAY + 60, range(600)))
    assert "older than counter.publish_keep_days" not in count(running), "a restart has nothing to delete"
    until(lambda: old not in keys(running), "the cleaner to delete the old count")
    shutil.rmtree(running.directory / "state")
    count(running)
    assert old not in keys(running)
    assert day in keys(running)
