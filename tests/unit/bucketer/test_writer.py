"""What the bucketer writes: delivery failures, dead letters, and topics that refuse or are gone."""

import json
import os
from unittest.mock import Mock

import pytest
from fake_bucketer import Feed
from fakes import FakeKafka, FakeStop

from unique_users.errors import TopicError
from unique_users.messages.dead_letters import DeadLetter

DAY = 86_400


@pytest.mark.parametrize("arrived", [0, 1, 2])
def test_after_a_delivery_failure_all_since_the_last_commit_is_sent_again_by_a_new_producer(
    feed: Feed, arrived: int, capsys: pytest.CaptureFixture[str]
) -> None:
    feed.put("a")
    feed.step()
    feed.clock.advance(1)
    feed.step()
    for uid in "bcd":
        feed.put(uid)
    feed.step()
    feed.kafka.refuse_after = arrived
    feed.clock.advance(1)
    feed.step()
    assert feed.committed() == 1
    assert feed.producers[0].closed
    assert len(feed.producers) == 2
    assert "reading again from the last commit" in capsys.readouterr().err
    feed.step()
    feed.clock.advance(1)
    feed.step()
    assert feed.committed() == 4
    assert feed.bucketed() == [*"a", *"bcd"[:arrived], *"bcd"]
    assert feed.bucketing.counts.read == 4, "frames sent again are counted once"


def test_frames_that_were_under_way_when_it_started_over_are_not_taken_for_progress(feed: Feed) -> None:
    """frames   a b   | REFUSE |   c (polled before the consumer goes back)   commit   | CRASH"""
    feed.put("a")
    feed.put("b")
    feed.step()
    feed.kafka.refuse_after = 0
    feed.clock.advance(1)
    feed.step()
    feed.put("c")
    feed.clock.advance(1)
    feed.step()
    feed.assert_what_is_committed_has_arrived()
    feed.finish()
    assert {*feed.bucketed()} == {*"abc"}


def test_a_delivery_failure_at_the_end_starts_over_too(feed: Feed) -> None:
    feed.put("a")
    feed.crash()
    feed.start(until={0: 1})
    feed.kafka.refuse_after = 0
    for _ in range(20):
        if not feed.bucketing.step():
            break
    feed.bucketing.close()
    assert feed.bucketed() == ["a"]
    assert feed.committed() == 1


def test_a_delivery_failure_while_closing_leaves_the_frames_to_the_next_start(
    feed: Feed, capsys: pytest.CaptureFixture[str]
) -> None:
    feed.put("a")
    feed.step()
    feed.kafka.refuse_after = 0
    feed.bucketing.close()
    assert feed.committed() == 0
    assert "1 frames are not committed" in capsys.readouterr().err
    feed.finish()
    assert feed.bucketed() == ["a"]


def test_frames_pending_in_a_lost_partition_are_counted_by_its_next_owner_only(kafka: FakeKafka) -> None:
    kafka.topics.pop("feed")
    kafka.create("feed", partitions=2)
    feed = Feed(kafka)
    feed.step()
    feed.put("a", partition=0)
    feed.put("b", partition=1)
    feed.step()
    kafka.assign({feed.consumer: [0]})
    feed.step()
    feed.clock.advance(1)
    feed.step()
    assert feed.bucketing.counts.read == 1
    assert (feed.committed(0), feed.committed(1)) == (1, 0)
    kafka.assign({feed.consumer: [0, 1]})
    feed.step()
    feed.clock.advance(1)
    feed.step()
    assert feed.bucketing.counts.read == 2
    assert (feed.committed(0), feed.committed(1)) == (1, 1)


def test_a_refused_commit_is_tried_again_and_counted_once(feed: Feed) -> None:
    feed.put("a")
    feed.step()
    feed.crash()
    assert feed.bucketing.commit() is False
    assert feed.bucketing.counts.read == 0
    feed.step()
    feed.clock.advance(1)
    feed.step()
    assert feed.committed() == 1
    assert feed.bucketing.counts.read == 1


def test_what_is_no_frame_goes_to_rejected_untouched_with_why_and_where_from(feed: Feed) -> None:
    """Clock:  | the past, late |  retention 1 day  | now | 1 hour | the future"""
    now = int(feed.clock.wall())
    for _ in range(101):
        feed.put("u", now)
    feed.kafka.append("feed", b"\xff not json", None)
    feed.put("late", now - DAY - 1)
    feed.put("just in time", now - DAY)
    feed.put("future", now + 3_601)
    feed.put("soon", now + 3_600)
    feed.finish()
    headers = {h["offset"]: h for h in feed.rejected()}
    assert {offset: h["reason"] for offset, h in headers.items()} == {
        "101": "not_json",
        "102": "tombstone",
        "103": "late",
        "105": "future",
    }
    assert all(h["topic"] == "feed" and h["partition"] == "0" and h["detail"] for h in headers.values())
    values = {dict(r.headers)["offset"]: r.value for r in feed.kafka.records("rejected")}
    assert values[b"101"] == b"\xff not json"
    assert values[b"102"] == b""
    assert json.loads(values[b"103"] or b"")["uid"] == "late"
    assert {record.key for record in feed.kafka.records("rejected")} == {None}
    assert {*feed.bucketed()} == {"u", "just in time", "soon"}
    counts = feed.bucketing.counts
    assert (counts.read, counts.accepted, counts.rejected) == (
        107,
        103,
        {"not_json": 1, "tombstone": 1, "late": 1, "future": 1},
    )


def test_a_dead_letter_keeps_the_key_the_headers_and_the_time_of_its_record(feed: Feed) -> None:
    own = [("trace", b"7"), ("reason", b"mine"), ("empty", None)]
    feed.kafka.append("feed", b"{", key=b"k", timestamp_ms=1_468_244_000_123, headers=own)
    feed.finish()
    (record,) = feed.kafka.records("rejected")
    assert record.key == b"k"
    assert list(record.headers[:4]) == [*own, ("reason", b"not_json")]
    letter = DeadLetter.read(record.value, record.key, record.headers)
    assert letter is not None
    assert letter == DeadLetter("not_json", letter.detail, "feed", 0, 0, b"{", b"k", 1_468_244_000_123, tuple(own))


# What does not fit, and what cannot be unpacked.


def test_a_record_that_fits_nowhere_is_cut_and_the_feed_goes_on(kafka: FakeKafka, stop: FakeStop) -> None:
    """frames a HUGE b │ `rejected` takes less than HUGE"""
    kafka.create("rejected", settings={"max.message.bytes": "100000"})
    feed = Feed(kafka, stop)
    feed.put("a")
    kafka.append("feed", os.urandom(3_000_000))
    feed.put("b")
    feed.finish()
    assert feed.committed() == 3
    assert feed.bucketed() == ["a", "b"], "none of them twice"
    (letter,) = feed.rejected()
    assert (letter["reason"], letter["offset"], letter["bytes_total"]) == ("too_large", "1", "3000000")
    assert int(letter["bytes_kept"]) == len(kafka.records("rejected")[0].value or b"") > 98_000


def test_a_topic_rejected_that_takes_less_by_now_stops_nothing(feed: Feed) -> None:
    feed.kafka.append("feed", b"x" * 100)
    feed.step(3)
    feed.kafka.topics["rejected"].settings["max.message.bytes"] = "5000"
    feed.kafka.append("feed", os.urandom(50_000))
    feed.put("b")
    feed.step(3)
    feed.finish()
    assert feed.bucketed() == ["b"]
    assert [letter.get("bytes_total") for letter in feed.rejected()] == [None, "50000"]


def test_a_topic_bucketed_that_takes_no_record_is_refused_at_the_start(kafka: FakeKafka, stop: FakeStop) -> None:
    kafka.create("bucketed", settings={"max.message.bytes": "1000"})
    with pytest.raises(TopicError, match=r"'bucketed' has max.message.bytes=1000, .* set it to 4096 or more"):
        Feed(kafka, stop)


def test_records_that_bucketed_refuses_again_and_again_end_it_with_one_line(feed: Feed) -> None:
    feed._bytes_max = Mock(return_value=1_000_000)  # type: ignore[method-assign]  # it may not be asked
    feed.kafka.topics["bucketed"].settings["max.message.bytes"] = "10"
    feed.put("a")
    with pytest.raises(TopicError, match=r"topic 'bucketed' refuses every record .*: raise its max.message.bytes"):
        feed.step(20)


def test_combined_records_are_as_large_as_the_topic_takes(kafka: FakeKafka, stop: FakeStop) -> None:
    kafka.create("bucketed", settings={"max.message.bytes": "5000"})
    feed = Feed(kafka, stop, combine=True)
    users = [f"user-{number}" for number in range(2_000)]
    for user in users:
        feed.put(user)
    feed.finish()
    values = kafka.values("bucketed")
    assert all(len(value or b"") < 5_000 for value in values)
    assert [uid for value in values for uid in json.loads(value or b"")["uids"]] == users


def test_a_topic_bucketed_that_takes_less_by_now_gets_smaller_records(kafka: FakeKafka, stop: FakeStop) -> None:
    feed = Feed(kafka, stop, combine=True)
    feed.step()
    kafka.topics["bucketed"].settings["max.message.bytes"] = "5000"
    users = [f"user-{number}" for number in range(2_000)]
    for user in users:
        feed.put(user)
    feed.step(5)
    feed.finish()
    assert {uid for value in kafka.values("bucketed") for uid in json.loads(value or b"")["uids"]} == set(users)
    assert feed.committed() == 2_000


@pytest.mark.parametrize("name", ["bucketed", "rejected"])
def test_while_a_topic_that_is_written_is_gone_nothing_is_sent_or_committed_and_then_all_is_read_again(
    feed: Feed, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    feed.put("a")
    feed.bucketing.step()
    feed.kafka.delete(name)
    feed.put("b")
    feed.step(5)
    assert feed.committed() == 0
    feed.bucketing.report()
    assert f"no topic '{name}'" in capsys.readouterr().out
    feed.kafka.create(name)
    feed.topics.recreations += 1
    feed.step(5)
    assert feed.bucketing.commit()
    assert feed.committed() == 2
    assert set(feed.bucketed()) == {"a", "b"}
    assert len(feed.producers) == 2, "what was in flight would have come into the new topic"


def test_frames_are_read_again_where_another_process_recreated_bucketed_unnoticed(
    feed: Feed, capsys: pytest.CaptureFixture[str]
) -> None:
    feed.put("a")
    feed.bucketing.step()
    feed.kafka.delete("bucketed")
    feed.kafka.create("bucketed")
    feed.topics.recreations += 1
    feed.step(3)
    assert feed.bucketing.commit()
    assert feed.bucketed() == ["a"]
    assert capsys.readouterr().err.count("an output topic was deleted and recreated; reading again") == 1
