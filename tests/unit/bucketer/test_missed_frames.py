"""Frames that were deleted before they were read: the bucketer tells the counters with its commits."""

import pytest
from fake_bucketer import Feed
from fakes import FakeKafka, FakeStop

from unique_users.aggregation.completeness import RECORD_AHEAD_SECONDS, Gap, Why
from unique_users.messages.offset_metadata import OffsetMetadata

NOW = 1_468_244_400
DAY = 86_400
AHEAD = 600 + RECORD_AHEAD_SECONDS


@pytest.fixture
def feed(kafka: FakeKafka, stop: FakeStop) -> Feed:
    feed = Feed(kafka, stop, allowed_lateness_seconds=DAY, future_seconds_max=600)
    feed.step()
    return feed


def go_on(feed: Feed) -> None:
    for _ in range(3):
        feed.step()
        feed.clock.advance(1)


def gaps(feed: Feed) -> tuple[Gap, ...]:
    return OffsetMetadata.parsed(feed.kafka.group("bucketer", "feed").committed[0].metadata).gaps


def gap(start: int, end: int) -> Gap:
    return Gap("", start, end, Why.RECORDS_DELETED)


def at(feed: Feed, offset: int) -> int:
    (record,) = [record for record in feed.kafka.records("feed") if record.offset == offset]
    return record.timestamp_ms // 1000


@pytest.mark.parametrize("runs", [True, False], ids=["while it runs", "while it is stopped"])
def test_what_was_deleted_unread_is_anything_from_the_watermark_on(feed: Feed, *, runs: bool) -> None:
    """frames   101 read, committed | 2 deleted | 1   then a restart, which knows it still"""
    for number in range(101):
        feed.put(f"u{number}", NOW)
    go_on(feed)
    assert gaps(feed) == ()
    if not runs:
        feed.crash()
    for uid in "xyz":
        feed.put(uid, NOW)
    feed.kafka.trim("feed", 0, 103)
    if not runs:
        feed.start()
    go_on(feed)
    missed = gap(NOW - DAY, at(feed, 103) + AHEAD)
    assert gaps(feed) == (missed,)
    feed.crash()
    feed.start()
    feed.put("later", NOW)
    go_on(feed)
    assert gaps(feed) == (missed,)
    assert feed.committed() == 105


def test_a_feed_whose_start_is_gone_when_it_is_read_first_lacks_anything_up_to_there(feed: Feed) -> None:
    feed.crash()
    for uid in "xyz":
        feed.put(uid, NOW)
    feed.kafka.trim("feed", 0, 2)
    feed.start()
    go_on(feed)
    assert gaps(feed) == (gap(0, at(feed, 2) + AHEAD),)


def test_what_an_old_feed_lacked_is_told_by_the_one_that_replaced_it_too(feed: Feed) -> None:
    for uid in "xyz":
        feed.put(uid, NOW)
    feed.kafka.trim("feed", 0, 2)
    go_on(feed)
    missed = gaps(feed)
    assert missed
    feed.kafka.topics["feed"].id = ""  # known by its offsets alone
    feed.kafka.topics["feed"].partitions[0].records.clear()
    feed.kafka.topics["feed"].partitions[0].first = 0
    feed.put("new", NOW)
    go_on(feed)
    assert gaps(feed) == missed


def test_records_that_transactions_left_out_are_not_missing(feed: Feed) -> None:
    feed.put("a", NOW)
    go_on(feed)
    feed.put("a control record")
    log = feed.kafka.topics["feed"].partitions[0]
    log.records[1:] = []
    log.records.append(log.records[0]._replace(offset=2))
    log.first = 0
    go_on(feed)
    assert gaps(feed) == ()


def test_that_frames_are_missing_is_remembered_until_the_next_frame_tells_up_to_when(feed: Feed) -> None:
    """frames   3 deleted, committed that far | crash | 1"""
    feed.crash()
    for uid in "xyz":
        feed.put(uid, NOW)
    feed.kafka.trim("feed", 0, 3)
    feed.start()
    go_on(feed)
    assert feed.committed() == 3
    feed.crash()
    feed.start()
    feed.put("later", NOW)
    go_on(feed)
    assert gaps(feed) == (gap(0, at(feed, 3) + AHEAD),)
