"""Counts that would be lost, and numbers that may be wrong, by the real scripts through a real broker."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from brokers import config_for
from kafka import KafkaAdminClient, TopicPartition
from patience import until
from running import CLIENT, Running

from unique_users.clients.connect import get_admin
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.messages.merged_counts import PublishedBucket
from unique_users.messages.offset_metadata import OffsetMetadata

MAY, JUNE = (int(datetime(2016, month, 10, 12, tzinfo=UTC).timestamp()) for month in (5, 6))
DAY = 86_400
MONTHS = [Bucket("month", Calendar().start("month", at)) for at in (MAY, JUNE)]
SETTINGS = ["bucketer.allowed_lateness_seconds=86400", "counter.retention_seconds=86400"]
MONTHLY = [*SETTINGS, "counter.intervals=[minute, month]"]


def frames(start: int, users: range) -> bytes:
    """One frame of each user, in one minute: enough of them move the stream's clock."""
    return b"".join(b'{"uid":"user %d","ts":%d}\n' % (user, start + user % 60) for user in users)


def count(running: Running, *flags: str, code: int = 0) -> str:
    """Re-key and count what is in `feed`; what the counter said on stderr."""
    running.run("bucketer", "--until-caught-up")
    return running.run("counter", "--until-caught-up", "--format", "json", *flags, code=code).stderr


@contextmanager
def administrator(running: Running) -> Iterator[Any]:
    with KafkaAdminClient(bootstrap_servers=running.broker) as admin:
        yield admin


def trim(running: Running, topic: str, before: int) -> None:
    with administrator(running) as admin:
        admin.delete_records({TopicPartition(running.topic(topic), 0): before})


def of_interval(found: Mapping[Bucket, PublishedBucket], interval: str) -> dict[Bucket, PublishedBucket]:
    return {bucket: what for bucket, what in found.items() if bucket.interval == interval}


@pytest.mark.slow
def test_a_month_that_the_configuration_forgot_is_not_lost(running: Running) -> None:
    """June 10: 2,000 users | June 12: 1,000 others | a start that forgot the month, its first minutes are gone"""
    running.settings = MONTHLY
    running.run("producer", "-", stdin=frames(JUNE, range(2_000)))
    count(running)
    running.run("producer", "-", stdin=frames(JUNE + 2 * DAY, range(2_000, 3_000)))
    count(running)
    running.settings = SETTINGS
    said = count(running, code=2)
    assert "month: 1 bucket, 3,000 users (put month back into counter.intervals to keep them, or start with" in said
    running.settings = MONTHLY
    running.run("producer", "-", stdin=frames(JUNE + 2 * DAY, range(3_000, 3_100)))
    count(running)
    assert running.published()[MONTHS[1]] == PublishedBucket(3_100)
    running.settings = SETTINGS
    count(running, "--drop", "month")
    assert not of_interval(running.published(), "month")
    running.settings = MONTHLY
    assert "filled from the saved state: month" in count(running)
    assert running.published()[MONTHS[1]] == PublishedBucket(1_100, ("filled_late",))


def test_another_zone_replaces_the_days_in_counts(running: Running) -> None:
    running.settings = [*SETTINGS, "counter.intervals=[minute, day]"]
    running.run("producer", "-", stdin=frames(JUNE, range(500)))
    count(running)
    running.settings = [*running.settings, "counter.timezone=Asia/Tokyo"]
    assert "set counter.timezone to UTC" in count(running, code=2)
    count(running, "--drop", "day")
    day = Bucket("day", Calendar("Asia/Tokyo").start("day", JUNE))
    assert of_interval(running.published(), "day") == {day: PublishedBucket(500)}


def test_a_lost_state_and_a_trimmed_topic_are_marked_wherever_a_number_is_shown(running: Running) -> None:
    running.settings = MONTHLY
    lines = frames(JUNE, range(2_000))
    running.run("producer", "-", stdin=lines)
    count(running)
    shutil.rmtree(running.directory / "state")
    trim(running, "bucketed", 1_500)
    running.run("producer", "-", stdin=frames(JUNE + 60, range(2_000, 2_400)))
    said = count(running)
    assert "marked as not whole" in said
    minute, month = Bucket("minute", JUNE), MONTHS[1]
    assert running.published()[minute] == PublishedBucket(2_000, ("state_lost",))
    assert running.published()[month].why == ("state_lost",)
    shown = running.run("counter", "--until-caught-up", "--format", "json").stdout.splitlines()
    assert [json.loads(line).get("why") for line in shown[:-1]] == [["state_lost"]] * 3
    text = running.run("counter", "--until-caught-up").stdout
    assert "2016-06-10T12:00:00Z  minute  500 unique users  +500  not whole: state lost" in text
    compared = running.run("recount", "-", "--against", "counts", "--all", stdin=lines, code=1)
    assert "month  published 2,000  recounted 2,000" not in compared.stdout
    assert "2016-06-10T12:01:00Z  minute  published 400  recounted 0  not whole: state lost" in compared.stdout
    assert "2016-06-10T12:00:00Z  minute  does not differ  not whole: state lost" in compared.stderr
    asked = running.run("query", "--last", "10 minutes")
    assert asked.stdout.endswith("900 unique users  not whole: state lost\n")


def test_frames_deleted_unread_are_told_with_the_bucketers_commits(running: Running) -> None:
    running.settings = SETTINGS
    running.run("producer", "-", stdin=frames(JUNE, range(1_000)))
    running.run("bucketer", "--until-caught-up")
    running.run("producer", "-", stdin=frames(JUNE, range(1_000, 1_500)))
    trim(running, "feed", 1_200)
    assert "200 records were deleted" in running.run("bucketer", "--until-caught-up").stderr
    group, feed = f"{running.name}-bucketer", TopicPartition(running.topic("feed"), 0)
    with administrator(running) as admin:
        committed = admin.list_group_offsets({group: [feed]})[group][feed]
    ((_, start, _, why),) = OffsetMetadata.parsed(committed.metadata.rstrip("\0")).gaps
    assert (why, JUNE - DAY <= start <= JUNE - DAY + 60) == ("records_deleted", True)
    count(running)
    count(running)  # at the latest by now it knows what the bucketer said
    assert running.published() == {Bucket("minute", JUNE): PublishedBucket(1_300, ("records_deleted",))}


def test_frames_that_were_all_deleted_unread_are_marked_before_another_one_comes(running: Running) -> None:
    running.settings = SETTINGS
    running.run("producer", "-", stdin=frames(JUNE, range(1_000)))
    count(running)
    running.run("producer", "-", stdin=frames(JUNE, range(1_000, 1_500)))
    trim(running, "feed", 1_500)
    running.run("counter", "--until-caught-up")
    assert running.published() == {Bucket("minute", JUNE): PublishedBucket(1_000, ("records_deleted",))}
    running.run("producer", "-", stdin=frames(JUNE, range(1_500, 1_501)))
    count(running)
    assert running.published() == {Bucket("minute", JUNE): PublishedBucket(1_001, ("records_deleted",))}


def test_topics_that_were_made_again_are_not_mixed_with_the_old_counts(running: Running) -> None:
    """3,000 users | feed and bucketed recreated, counts stays | 500 others in the same minute"""
    running.settings = SETTINGS
    running.run("producer", "-", stdin=frames(JUNE, range(3_000)))
    count(running)
    names = [running.topic("feed"), running.topic("bucketed")]
    with administrator(running) as admin:
        admin.delete_topics(names)
    config = config_for(running.broker, client=CLIENT)
    ours = get_admin(config)
    until(lambda: not any(ours.describe(name) for name in names), "the topics to be gone")
    ours.close()
    lines = frames(JUNE, range(5_000, 5_500))
    running.run("producer", "-", stdin=lines)
    assert "counted from another topic" in count(running)
    assert running.published() == {Bucket("minute", JUNE): PublishedBucket(500)}
    assert "exact" in running.run("recount", "-", "--against", "counts", stdin=lines).stderr
