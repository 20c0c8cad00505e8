"""Behind a transactional producer: what it leaves in `feed` is no lag, and what it has not finished is told as such."""

import pytest
from fake_bucketer import Feed
from fakes import FakeAdmin

from unique_users.pipeline.low_watermark import LowWatermark
from unique_users.pipeline.progress import Progress, look


def go_on(feed: Feed) -> None:
    for _ in range(4):
        feed.step()
        feed.clock.advance(1)


def progress(feed: Feed) -> Progress:
    return look(FakeAdmin(feed.kafka), feed.config, LowWatermark(60), 0)


def test_the_marker_of_a_transaction_is_no_lag(feed: Feed) -> None:
    """frames   a b | marker   then a restart"""
    feed.put("a")
    feed.put("b")
    feed.kafka.end_transaction("feed")
    go_on(feed)
    assert feed.bucketed() == ["a", "b"]
    assert feed.bucketing.partitions.lag() == 0
    assert progress(feed).unread == 0
    assert feed.committed() == 2  # where a log that loses only its marker goes on
    feed.crash()
    feed.start()
    go_on(feed)
    assert feed.bucketing.partitions.lag() == 0
    assert progress(feed).unread == 0
    feed.put("c")
    go_on(feed)
    assert feed.bucketed() == ["a", "b", "c"]
    assert feed.committed() == 4


def test_a_partition_that_ends_with_a_marker_becomes_idle(feed: Feed) -> None:
    feed.put("a")
    feed.kafka.end_transaction("feed")
    go_on(feed)
    seen = progress(feed)
    low_watermark = LowWatermark(60)
    low_watermark.update(seen.committed, {0: 2}, 0)
    assert low_watermark._is_idle(0, seen.committed[0], 2, 61)


def test_what_waits_behind_an_open_transaction_is_told_and_is_no_lag(
    feed: Feed, capsys: pytest.CaptureFixture[str]
) -> None:
    feed.put("a")
    go_on(feed)
    feed.kafka.topics["feed"].partitions[0].open_from = 1
    for uid in "bcd":
        feed.put(uid)
    go_on(feed)
    feed.bucketing.report()
    assert "3 frames wait behind an open transaction" in capsys.readouterr().out
    seen = progress(feed)
    assert (seen.unread, seen.in_transactions) == (0, 3)
    feed.kafka.end_transaction("feed")
    go_on(feed)
    feed.bucketing.report()
    assert "transaction" not in capsys.readouterr().out.rpartition("Z  report  ")[2]
    assert feed.bucketed() == ["a", "b", "c", "d"]
    assert progress(feed).in_transactions == 0
