"""Where a group without commits begins, and what follows from that for its lag, its marks and its later partitions."""

from typing import Any

import pytest
from fake_bucketer import Feed
from fakes import FakeAdmin, FakeKafka, FakeStop

from unique_users.messages.offset_metadata import OffsetMetadata
from unique_users.pipeline.low_watermark import LowWatermark
from unique_users.pipeline.progress import look

NOW = 1_468_244_400  # the clock's at the start


def new_feed(kafka: FakeKafka, stop: FakeStop, frames: int, partitions: int = 1, **rules: Any) -> Feed:
    """A bucketer that comes to frames, one a second, which nobody has read."""
    kafka.create("feed", partitions, kafka.topics["feed"].settings)
    for number in range(frames):
        for partition in range(partitions):
            value = b'{"uid": "%d-%d", "ts": %d}' % (partition, number, NOW)
            kafka.append("feed", value, partition=partition, timestamp_ms=(NOW + number) * 1000)
    return Feed(kafka, stop, **rules)


def go_on(feed: Feed) -> None:
    for _ in range(4):
        feed.step()
        feed.clock.advance(1)


@pytest.mark.parametrize(
    ("start", "read"),
    [
        ("earliest", ["0-0", "0-1", "0-2", "0-3"]),
        ("2016-07-11T13:40:02Z", ["0-2", "0-3"]),
        ("2016-07-11T15:40:01.5+02:00", ["0-2", "0-3"]),
        ("2000-01-01T00:00:00Z", ["0-0", "0-1", "0-2", "0-3"]),
        ("2100-01-01T00:00:00Z", []),
        ("latest", []),
    ],
)
def test_a_new_group_begins_where_it_is_told(kafka: FakeKafka, stop: FakeStop, start: str, read: list[str]) -> None:
    feed = new_feed(kafka, stop, 4, start=start)
    go_on(feed)
    feed.put("new")
    go_on(feed)
    assert feed.bucketed() == [*read, "new"]
    assert feed.committed() == 5


@pytest.mark.parametrize("start", ["latest", "2016-07-11T13:40:03Z"])
def test_what_is_left_out_is_no_lag_and_not_missing_even_of_a_trimmed_topic(
    kafka: FakeKafka, stop: FakeStop, start: str
) -> None:
    feed = new_feed(kafka, stop, 4, start=start)
    kafka.trim("feed", 0, 2)
    feed.step()
    at = 4 if start == "latest" else 3
    (committed,) = kafka.group("bucketer", "feed").committed.values()
    assert committed.offset == at  # before anything is read
    assert look(FakeAdmin(kafka), feed.config, LowWatermark(60), 0).unread == 4 - at
    go_on(feed)
    assert feed.bucketing.partitions.lag() == 0
    metadata = OffsetMetadata.parsed(kafka.group("bucketer", "feed").committed[0].metadata)
    assert (metadata.gaps, metadata.missed) == ((), False)


def test_a_crash_before_the_first_frame_does_not_move_the_start(kafka: FakeKafka, stop: FakeStop) -> None:
    """frames   4 | the bucketer comes, and is killed | 1 | it comes back"""
    feed = new_feed(kafka, stop, 4, start="latest")
    feed.step()
    feed.crash()
    feed.put("meanwhile")
    feed.start()
    go_on(feed)
    assert feed.bucketed() == ["meanwhile"]


def test_a_partition_that_comes_later_is_read_from_its_start(kafka: FakeKafka, stop: FakeStop) -> None:
    feed = new_feed(kafka, stop, 4, start="latest")
    go_on(feed)
    kafka.topics["feed"].partitions.append(type(kafka.topics["feed"].partitions[0])())
    feed.put("in the new one", partition=1)
    kafka.balance(kafka.group("bucketer", "feed"), "feed")
    go_on(feed)
    assert feed.bucketed() == ["in the new one"]


def test_members_that_come_at_once_all_begin_where_they_are_told(kafka: FakeKafka, stop: FakeStop) -> None:
    """One has committed the start of its partition when the other one comes to its own."""
    feed = new_feed(kafka, stop, 4, partitions=2, start="latest")
    go_on(feed)
    del kafka.group("bucketer", "feed").committed[1]
    feed.crash()
    feed.start()
    go_on(feed)
    feed.put("new", partition=1)
    go_on(feed)
    assert feed.bucketed() == ["new"]


def test_a_group_that_only_lacks_a_commit_reads_all_of_that_partition(kafka: FakeKafka, stop: FakeStop) -> None:
    feed = new_feed(kafka, stop, 2, partitions=2)
    go_on(feed)
    del kafka.group("bucketer", "feed").committed[1]
    feed.crash()
    late = Feed(kafka, stop, start="latest")
    go_on(late)
    assert sorted(late.bucketed()) == ["0-0", "0-1", "1-0", "1-0", "1-1", "1-1"]


def test_a_group_that_is_rebalancing_waits_with_its_start(
    kafka: FakeKafka, stop: FakeStop, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = new_feed(kafka, stop, 4, start="latest")
    monkeypatch.setattr(feed.consumer, "commit", lambda *_: False)
    go_on(feed)
    assert not feed.bucketing.partitions.open
    monkeypatch.undo()
    go_on(feed)
    assert feed.bucketing.partitions.open
    assert feed.bucketed() == []
