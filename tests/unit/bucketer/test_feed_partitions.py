"""The partitions of `feed`: where reading starts, what was recreated or deleted, what cannot be unpacked."""

from collections.abc import Iterable
from unittest.mock import Mock

import pytest
from fake_bucketer import Feed
from fakes import FakeKafka

from unique_users.clients.protocols import Position
from unique_users.errors import TopicError

DAY = 86_400


def test_the_clock_is_restored_from_the_commit_so_that_a_restart_judges_as_before(feed: Feed) -> None:
    """frames   101 of now   | CRASH |   late"""
    now = int(feed.clock.wall())
    for _ in range(101):
        feed.put("u", now)
    feed.step()
    feed.clock.advance(1)
    feed.step()
    assert feed.committed() == 101
    feed.put("late", now - DAY - 1)
    feed.finish()
    assert [h["reason"] for h in feed.rejected()] == ["late"]


def test_metadata_of_another_program_is_no_hindrance(feed: Feed) -> None:
    for uid in "abc":
        feed.put(uid)
    feed.kafka.group("bucketer", "feed").committed[0] = Position(1, "")
    feed.finish()
    assert feed.bucketed() == ["b", "c"]


def test_a_partition_is_opened_when_the_broker_is_back(kafka: FakeKafka) -> None:
    feed = Feed(kafka)
    feed.put("a")
    answers = feed.consumer.committed

    def silent(partitions: Iterable[int]) -> dict[int, Position]:
        kafka.away = True
        return answers(partitions)

    feed.consumer.committed = silent  # type: ignore[method-assign]
    feed.step(3)
    assert feed.bucketed() == []
    kafka.away = False
    feed.consumer.committed = answers  # type: ignore[method-assign]
    feed.step(2)
    feed.clock.advance(1)
    feed.step()
    assert feed.bucketed() == ["a"]


def test_many_partitions_are_opened_with_a_few_questions(kafka: FakeKafka) -> None:
    kafka.create("feed", partitions=300)
    feed = Feed(kafka)
    for partition in range(300):
        feed.put(f"u{partition}", partition=partition)
    feed.step(2)
    assert len(feed.bucketing.partitions.open) == 300
    assert feed.consumer.asked == {"committed": 2, "watermark_offsets": 1}, "one of all layouts before the first frame"
    feed.step(2)
    assert feed.consumer.asked == {"committed": 2, "watermark_offsets": 1, "high_watermark_offsets": 1}, (
        "the first report asks for the lag"
    )


def test_a_partition_that_a_topic_made_again_does_not_have_keeps_no_other_from_being_opened(kafka: FakeKafka) -> None:
    kafka.create("feed", partitions=2)
    feed = Feed(kafka)
    feed.bucketing.partitions._unopened |= {2}  # of the old topic; a rebalance is about to take it away
    feed.put("a")
    feed.put("b", partition=1)
    feed.step(2)
    assert sorted(feed.bucketing.partitions.open) == [0, 1]


@pytest.mark.parametrize("again", ["de", "defg"], ids=["shorter", "longer"])
def test_a_feed_that_was_made_again_is_read_from_its_start(
    feed: Feed,
    again: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """feed   a b c, all committed   | deleted, recreated |   d e   (shorter)  or  d e f g  (longer)"""
    for uid in "abc":
        feed.put(uid)
    feed.step()
    feed.clock.advance(1)
    feed.step()
    assert feed.committed() == 3
    group = feed.kafka.group("bucketer", "feed")
    remembered = dict(group.committed)
    feed.kafka.delete("feed")
    feed.kafka.create("feed")
    group.committed.update(remembered)  # a broker forgets them, in its own time
    for uid in again:
        feed.put(uid)
    feed.finish()
    assert {*feed.bucketed()} == {*"abc", *again}
    assert "recreated" in capsys.readouterr().err


@pytest.mark.parametrize("topic_ids", [True, False], ids=["with topic ids", "without"])
def test_a_feed_that_was_made_again_as_long_as_before_is_committed_again(
    kafka: FakeKafka,
    topic_ids: bool,  # noqa: FBT001
) -> None:
    """feed   a b c, all committed   | deleted, recreated | read |   d e f"""
    kafka.topics["feed"].id = "old" if topic_ids else ""
    feed = Feed(kafka)
    feed.step()
    for uid in "abc":
        feed.put(uid)
    feed.step()
    feed.clock.advance(1)
    feed.step()
    feed.kafka.delete("feed")
    feed.kafka.create("feed")
    kafka.topics["feed"].id = "new" if topic_ids else ""
    feed.kafka.group("bucketer", "feed").committed.clear()
    feed.step()
    for uid in "def":
        feed.put(uid)
    for _ in range(3):
        feed.step(2)
        feed.clock.advance(1)
    assert {*feed.bucketed()} == {*"abcdef"}
    assert feed.committed() == 3


def test_frames_that_retention_deleted_before_they_were_read_are_named(
    feed: Feed, capsys: pytest.CaptureFixture[str]
) -> None:
    for uid in "abcd":
        feed.put(uid)
    feed.kafka.group("bucketer", "feed").committed[0] = Position(1, "")
    feed.kafka.trim("feed", 0, 3)
    feed.finish()
    assert feed.bucketed() == ["d"]
    assert "offsets 1 to 2" in capsys.readouterr().err


def test_records_that_cannot_be_unpacked_are_rejected_by_their_offsets(
    feed: Feed, capsys: pytest.CaptureFixture[str]
) -> None:
    """offsets 0  1 2 3  4
    frames    a  (bad)  b
    """
    feed.put("a")
    feed.kafka.append_unreadable("feed", 3, "it unpacks to too much")
    feed.put("b")
    feed.finish()
    assert feed.bucketed() == ["a", "b"]
    assert [(x["reason"], x["detail"], x["partition"], x["offset"]) for x in feed.rejected()] == [
        ("too_large", "it unpacks to too much", "0", offset) for offset in "123"
    ]
    assert [record.value for record in feed.kafka.records("rejected")] == [b""] * 3
    out, err = capsys.readouterr()
    assert "5 frames read (+5), lag 0" in out
    assert "5 read = 2 accepted + 3 rejected" in out
    assert "rejected: too_large 3" in out
    assert "feed-0: skipping offsets 1 to 3: it unpacks to too much" in err
    assert feed.committed() == 5


def test_what_was_read_before_a_damaged_batch_is_committed_before_it_ends(feed: Feed) -> None:
    """Whoever goes past the batch by hand sets the position behind it."""
    feed.put("a")
    feed.step()
    feed.consumer.poll = Mock(side_effect=TopicError("feed-0: the batch at offset 1 is damaged"))  # type: ignore[method-assign]
    with pytest.raises(TopicError, match="offset 1 is damaged"):
        feed.step()
    assert feed.committed() == 1
    assert feed.bucketed() == ["a"]


def test_what_is_left_of_partitions_that_are_not_open_is_not_said_to_be_nothing(
    feed: Feed, capsys: pytest.CaptureFixture[str]
) -> None:
    feed.kafka.delete("feed")
    feed.bucketing.report()
    assert capsys.readouterr().out.endswith("(+0), no topic 'feed'\n")
