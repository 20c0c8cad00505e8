import json
import os
from collections.abc import Iterable, Mapping
from typing import Any
from unittest.mock import Mock

import pytest
from brokers import config_for
from fakes import (
    FakeAdmin,
    FakeClock,
    FakeConsumer,
    FakeKafka,
    FakePartition,
    FakePeek,
    FakeProducer,
    FakeStop,
    FakeTopics,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unique_users.bucketer.feed_partitions import FeedPartitions
from unique_users.bucketer.loop import Bucketing
from unique_users.bucketer.rekey import Rekeyer
from unique_users.bucketer.writer import Writer, layout_of_bucketed
from unique_users.clients.protocols import Position
from unique_users.clients.sending import BATCH_OVERHEAD_BYTES, COMPRESSION, DeadLetters, Sending
from unique_users.clients.topics import batch_bytes_max
from unique_users.errors import TopicError
from unique_users.log_history.check import HistoryCheck
from unique_users.messages.bucketed import COMBINED_BYTES_MAX
from unique_users.messages.frame import FrameParser
from unique_users.messages.offset_metadata import OffsetMetadata
from unique_users.messages.partitioning import partition_of

DAY = 86_400
CRASH, COMMIT, REFUSE, EVICT, AWAY, BACK = "CRASH", "COMMIT", "REFUSE", "EVICT", "AWAY", "BACK"


class Feed:
    """A bucketer on a fake broker, which can be killed and started again."""

    def __init__(self, kafka: FakeKafka, stop: FakeStop | None = None, **rules: Any) -> None:
        self.kafka = kafka
        self.clock = kafka.clock
        self.stop = stop or FakeStop(kafka.clock)
        self.config = config_for("fake:1", bucketer=rules)
        self.producers: list[FakeProducer] = []
        self.letters_producers: list[FakeProducer] = []
        self.topics = FakeTopics(kafka, "feed", "bucketed", "rejected")
        self.start()

    def start(self, until: Mapping[int, int] | None = None) -> None:
        self.consumer = FakeConsumer(self.kafka, "feed", "bucketer")
        self.rekeyer = Rekeyer(
            FrameParser(),
            self.config.bucketer.future_seconds_max,
            combine=self.config.bucketer.combine,
            partitions=self._user_partitions(),
        )
        history = HistoryCheck("feed", self.consumer, lambda: FakePeek(self.kafka, "feed"), self.kafka.answers)
        self.bucketing = Bucketing(
            self.config,
            FeedPartitions(self.config, self.consumer, self.topics, history, until),
            Writer(self.config, self.topics, layout_of_bucketed(self.config, self.topics), self._new_producer),
            self.rekeyer,
            self.stop,
        )
        self.bucketing.open()

    def _user_partitions(self) -> int | None:
        layout = layout_of_bucketed(self.config, self.topics)
        return layout.partitions if self.config.bucketer.partition_by == "uid" else None

    def _new_producer(self) -> Sending:
        """As bucketer.py does."""
        bytes_max = self._bytes_max("bucketed") - BATCH_OVERHEAD_BYTES
        self.rekeyer.combined_bytes_max = min(COMBINED_BYTES_MAX, bytes_max)
        self.producers.append(FakeProducer(self.kafka))
        letters = DeadLetters("rejected", lambda: self._bytes_max("rejected"), self._new_letters_producer)
        return Sending(self.producers[-1], letters)

    def _new_letters_producer(self, _bytes_max: int) -> FakeProducer:
        self.letters_producers.append(FakeProducer(self.kafka, COMPRESSION))
        return self.letters_producers[-1]

    def _bytes_max(self, topic: str) -> int:
        return batch_bytes_max(FakeAdmin(self.kafka), topic)

    def put(self, uid: str, ts: float | None = None, partition: int = 0) -> None:
        """Append a frame to `feed`."""
        value = json.dumps({"uid": uid, "ts": int(self.clock.wall()) if ts is None else ts}).encode()
        self.kafka.append("feed", value, partition=partition)

    def crash(self) -> None:
        """Kill -9: nothing in flight arrives, the group takes the member for dead."""
        if self.consumer in self.kafka.group("bucketer", "feed").members:
            self.kafka.evict(self.consumer)

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.bucketing.step()

    def finish(self) -> None:
        """Run to the end of `feed` as it is now, and close."""
        ends = {p: log.end for p, log in enumerate(self.kafka.topics["feed"].partitions)}
        self.crash()
        self.start(until=ends)
        for _ in range(200):
            if not self.bucketing.step():
                break
        else:
            pytest.fail("never caught up")
        self.bucketing.close()

    def bucketed(self) -> list[str]:
        return [json.loads(value or b"")["uid"] for value in self.kafka.values("bucketed")]

    def rejected(self) -> list[dict[str, str]]:
        return [{name: value.decode() for name, value in r.headers} for r in self.kafka.records("rejected")]

    def committed(self, partition: int = 0) -> int:
        position = self.kafka.group("bucketer", "feed").committed.get(partition)
        return position.offset if position else 0

    def assert_what_is_committed_has_arrived(self) -> None:
        arrived = {*self.bucketed()}
        for partition, log in enumerate(self.kafka.topics["feed"].partitions):
            for record in log.records:
                if record.offset < self.committed(partition):
                    assert json.loads(record.value or b"")["uid"] in arrived, f"offset {record.offset} is lost"


@pytest.fixture
def feed(kafka: FakeKafka, stop: FakeStop) -> Feed:
    """A bucketer that has its partition and waits for frames."""
    feed = Feed(kafka, stop)
    feed.step()
    return feed


def test_frames_become_records_keyed_by_their_minute(feed: Feed) -> None:
    feed.put("a", 1_468_244_399)
    feed.put("b", 1_468_244_400)
    feed.finish()
    assert [(record.key, record.value) for record in feed.kafka.records("bucketed")] == [
        (b"1468244340", b'{"uid":"a","ts":1468244399}'),
        (b"1468244400", b'{"uid":"b","ts":1468244400}'),
    ]
    assert feed.committed() == 2


def test_a_commit_comes_after_the_acknowledgement_and_never_before(feed: Feed) -> None:
    """seconds  0        1
    frames   a b      |
    commit            2
    """
    feed.put("a")
    feed.put("b")
    feed.step()
    assert feed.kafka.values("bucketed") == []
    assert feed.committed() == 0
    feed.kafka.away = True
    feed.clock.advance(5)
    feed.step(5)
    assert feed.committed() == 0
    feed.kafka.away = False
    feed.clock.advance(1)
    feed.step()
    assert feed.bucketed() == ["a", "b"]
    assert feed.committed() == 2
    assert feed.bucketing.counts.accepted == 2


def test_a_crash_between_acknowledgement_and_commit_sends_frames_twice_and_loses_none(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CrashError(Exception):
        pass

    def crash(*_: object) -> bool:
        raise CrashError

    feed.put("a")
    feed.step()
    monkeypatch.setattr(feed.consumer, "commit", crash)
    feed.clock.advance(1)
    with pytest.raises(CrashError):
        feed.step()
    assert feed.bucketed() == ["a"]
    assert feed.committed() == 0
    feed.finish()
    assert feed.bucketed() == ["a", "a"]
    assert feed.committed() == 1


@pytest.mark.parametrize(
    "events",
    [
        [1, 2, CRASH, 3],
        [1, COMMIT, 2, CRASH, 3],
        [1, 2, COMMIT, CRASH, 3],
        [1, CRASH, CRASH, 2, COMMIT, 3, CRASH],
        [1, REFUSE, 2, COMMIT, 3],
        [1, EVICT, 2, COMMIT, 3],
        [1, 2, AWAY, COMMIT, CRASH, BACK, 3],
    ],
)
def test_a_crash_loses_nothing(kafka: FakeKafka, events: list[int | str]) -> None:
    run_events(Feed(kafka), events)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 1) | st.sampled_from([CRASH, COMMIT, REFUSE, EVICT, AWAY, BACK]), max_size=25))
@example([0, 1, REFUSE, COMMIT, EVICT, 0, COMMIT, CRASH, 1])
def test_no_order_of_faults_loses_a_frame(events: list[int | str]) -> None:
    kafka = FakeKafka(FakeClock())
    kafka.create("feed", partitions=2)
    kafka.create("bucketed", partitions=2)
    kafka.create("rejected")
    kafka.records_per_poll = 2
    run_events(Feed(kafka), events)


def run_events(feed: Feed, events: list[int | str]) -> None:
    """Put a frame for each number, inject each fault, and step after each; then finish and look."""
    partitions = len(feed.kafka.topics["feed"].partitions)
    put = []
    for number, event in enumerate(events):
        if event == CRASH:
            feed.crash()
            if not feed.kafka.away:
                feed.start()
        elif event == COMMIT:
            feed.clock.advance(1)
        elif event == REFUSE:
            feed.kafka.refuse_after = number % 3
        elif event == EVICT:
            feed.crash()
        elif event in (AWAY, BACK):
            feed.kafka.away = event == AWAY
        else:
            put.append(f"u{number}")
            feed.put(put[-1], partition=int(event) % partitions)
        feed.bucketing.step()
        feed.assert_what_is_committed_has_arrived()
    feed.kafka.away = False
    feed.finish()
    assert {*feed.bucketed()} == {*put}
    assert [feed.committed(p) for p in range(partitions)] == [log.end for log in feed.kafka.topics["feed"].partitions]
    assert feed.rejected() == []


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
        "102": "not_json",
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
    assert (counts.read, counts.accepted, counts.rejected) == (107, 103, {"not_json": 2, "late": 1, "future": 1})


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
    assert feed.consumer.asked == {"committed": 2, "bounds": 1}, "one of all layouts before the first frame"
    feed.step(2)
    assert feed.consumer.asked == {"committed": 2, "bounds": 1}


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


def reports(feed: Feed, seconds: float, capsys: pytest.CaptureFixture[str]) -> list[tuple[float, str]]:
    """The lines printed in so many seconds, and when each was."""
    printed = []
    end = feed.clock.monotonic() + seconds
    while feed.clock.monotonic() < end:
        feed.bucketing.step()
        printed += [(feed.clock.monotonic(), line) for line in capsys.readouterr().out.splitlines()]
    return printed


def test_a_report_comes_every_60_seconds_also_when_nothing_came(feed: Feed, capsys: pytest.CaptureFixture[str]) -> None:
    printed = reports(feed, 301, capsys)
    assert [at for at, _ in printed] == pytest.approx([60, 120, 180, 240, 300], abs=1)
    assert {line for _, line in printed} == {"0 frames read = 0 accepted + 0 rejected, lag 0"}


@pytest.mark.parametrize("pending", [False, True], ids=["idle", "with frames in flight"])
def test_a_report_comes_every_60_seconds_also_when_the_broker_is_away(
    feed: Feed,
    pending: bool,  # noqa: FBT001
    capsys: pytest.CaptureFixture[str],
) -> None:
    if pending:
        feed.put("a")
    feed.step()
    feed.kafka.away = True
    printed = reports(feed, 305, capsys)
    assert [at for at, _ in printed] == pytest.approx([60, 120, 180, 240, 300], abs=3)
    assert all(line.endswith("no answer from the broker") for _, line in printed)


def test_a_report_is_in_time_also_when_the_broker_falls_silent_between_acknowledgement_and_commit(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The producer's last words were heard, then nothing is: each commit is tried in vain."""
    feed.put("a")
    feed.step()
    monkeypatch.setattr(FakeProducer, "flush", lambda *_: True)
    feed.kafka.away = True
    printed = reports(feed, 305, capsys)
    assert [at for at, _ in printed] == pytest.approx([60, 120, 180, 240, 300], abs=5)


def test_the_lag_is_what_is_not_committed(feed: Feed, capsys: pytest.CaptureFixture[str]) -> None:
    feed.kafka.records_per_poll = 1
    for uid in "abc":
        feed.put(uid)
    feed.step()
    feed.bucketing.commit()
    feed.bucketing.report()
    assert capsys.readouterr().out == "1 frames read = 1 accepted + 0 rejected, lag 2\n"


def test_until_caught_up_ends_where_the_topic_ended_and_commits(feed: Feed, capsys: pytest.CaptureFixture[str]) -> None:
    feed.kafka.records_per_poll = 1
    for uid in "abc":
        feed.put(uid)
    feed.crash()
    feed.start(until={0: 2})
    steps = 1
    while feed.bucketing.step():
        steps += 1
        assert steps < 20
    assert feed.committed() == 2
    feed.bucketing.close()
    assert feed.bucketed() == ["a", "b"]
    assert capsys.readouterr().out == "2 frames read = 2 accepted + 0 rejected, lag 1\n"


def test_until_caught_up_ends_at_once_where_the_topic_is_empty(feed: Feed) -> None:
    feed.finish()
    assert feed.bucketed() == []


def test_a_stop_commits_what_was_read_and_leaves_the_group(feed: Feed, stop: FakeStop) -> None:
    feed.put("a")
    feed.step()
    stop.request()
    assert not feed.bucketing.step()
    feed.bucketing.close()
    assert feed.committed() == 1
    assert feed.consumer.closed
    assert feed.producers[-1].closed


def test_a_stop_while_the_broker_is_away_ends_in_under_10_seconds(
    feed: Feed, capsys: pytest.CaptureFixture[str]
) -> None:
    feed.put("a")
    feed.step()
    feed.kafka.away = True
    before = feed.clock.monotonic()
    feed.bucketing.close()
    assert feed.clock.monotonic() - before < 10
    assert "1 frames are not committed: they are read again at the next start" in capsys.readouterr().err
    assert feed.consumer.closed


def test_a_stop_while_the_first_producer_waits_for_the_broker_ends_the_loop(kafka: FakeKafka, stop: FakeStop) -> None:
    feed = Feed(kafka, stop)
    feed._new_producer = lambda: None  # type: ignore[method-assign,assignment,return-value]
    feed.start()
    assert not feed.bucketing.step()
    feed.bucketing.close()
    assert feed.consumer.closed


def test_a_producer_that_takes_nothing_more_stops_the_reading(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeProducer, "has_room", lambda *_: False)
    feed.put("a")
    feed.step(10)
    assert feed.consumer.position(0) == 0


def test_errors_other_than_delivery_end_the_loop(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    feed.put("a")
    monkeypatch.setattr(FakeProducer, "send_all", broken)
    with pytest.raises(ZeroDivisionError):
        feed.bucketing.step()


@pytest.mark.parametrize("combine", [False, True])
def test_by_uid_all_records_of_a_user_stand_in_one_partition_under_the_key_of_their_minute(
    kafka: FakeKafka,
    combine: bool,  # noqa: FBT001
) -> None:
    kafka.create("bucketed", partitions=3)
    feed = Feed(kafka, partition_by="uid", combine=combine)
    for number in range(30):
        feed.put(f"u{number % 10}", 1_468_244_384 + number % 2 * 60)
    feed.finish()
    for partition in range(3):
        records = kafka.records("bucketed", partition)
        assert {record.key for record in records} <= {b"1468244340", b"1468244400"}
        users = [json.loads(record.value or b"") for record in records]
        found = {uid for user in users for uid in user.get("uids", [user.get("uid")])}
        assert found == {f"u{number}" for number in range(10) if partition_of(f"u{number}", 3) == partition}


def grow(kafka: FakeKafka, topic: str, partitions: int) -> None:
    while len(kafka.topics[topic].partitions) < partitions:
        kafka.topics[topic].partitions.append(FakePartition())


@pytest.mark.parametrize("partition_by", ["bucket", "uid"])
def test_bucketed_that_grows_while_it_is_written_is_refused_and_nothing_more_is_committed(
    kafka: FakeKafka, partition_by: str
) -> None:
    feed = Feed(kafka, partition_by=partition_by)
    feed.put("a")
    feed.step(2)
    assert feed.bucketing.commit()
    grow(kafka, "bucketed", 2)
    feed.put("b")
    feed.step()
    with pytest.raises(TopicError, match=r"over 1 partitions, now it is to be .* over 2 partitions"):
        feed.bucketing.commit()
    assert kafka.group("bucketer", "feed").committed[0].offset == 1


def test_a_bucketer_that_first_gets_a_new_partition_of_feed_writes_nothing_by_a_new_layout(kafka: FakeKafka) -> None:
    first = Feed(kafka)
    first.put("a")
    first.step(2)
    assert first.bucketing.commit()
    grow(kafka, "feed", 2)
    grow(kafka, "bucketed", 2)
    second = Feed(kafka)
    second.put("b", partition=1)
    with pytest.raises(TopicError, match=r"over 1 partitions, now it is to be .* over 2 partitions"):
        second.step(3)
    assert second.consumer.owned == {1}
    assert second.bucketed() == ["a"]


def test_records_written_after_bucketed_grew_stand_where_they_would_have_before(kafka: FakeKafka) -> None:
    """What is written until the growth is noticed must not mislead a counter that counts the topic later."""
    kafka.create("bucketed", partitions=2)
    feed = Feed(kafka)
    minutes = [1_468_244_340 + 60 * number for number in range(20)]
    for _ in range(2):
        for minute in minutes:
            feed.put("a", minute)
        feed.step(2)
        grow(kafka, "bucketed", 4)
    with pytest.raises(TopicError):
        feed.bucketing.commit()
    keys = [sorted(record.key or b"" for record in kafka.records("bucketed", p)) for p in range(4)]
    assert len(set(keys[0] + keys[1])) == len(minutes)
    assert keys[2:] == [[], []]
    assert not set(keys[0]) & set(keys[1])


def test_a_layout_that_changed_is_refused_also_while_nothing_is_acknowledged(
    kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with records for a partition that is gone."""
    feed = Feed(kafka)
    feed.put("a")
    feed.step(2)
    monkeypatch.setattr(feed.producers[-1], "flush", lambda _seconds: False)
    grow(kafka, "bucketed", 2)
    with pytest.raises(TopicError, match="Make a new topic"):
        feed.bucketing.commit()


def test_bucketed_that_grew_while_no_bucketer_ran_is_refused_by_the_next_one(kafka: FakeKafka) -> None:
    feed = Feed(kafka, partition_by="uid")
    feed.put("a")
    feed.finish()
    grow(kafka, "bucketed", 4)
    feed.start()
    with pytest.raises(TopicError, match="Make a new topic"):
        feed.step(2)


@pytest.mark.parametrize(("partitions", "refused"), [(1, False), (2, True)])
def test_another_partition_by_is_refused_where_it_would_move_users(
    kafka: FakeKafka,
    partitions: int,
    refused: bool,  # noqa: FBT001
) -> None:
    kafka.create("bucketed", partitions=partitions)
    feed = Feed(kafka)
    feed.put("a")
    feed.finish()
    again = Feed(kafka, partition_by="uid")
    if refused:
        with pytest.raises(TopicError, match="by bucket over 2 partitions, now it is to be by uid over 2 partitions"):
            again.step(2)
    else:
        again.step(2)


def test_another_topic_of_the_same_name_may_have_another_layout(kafka: FakeKafka) -> None:
    feed = Feed(kafka)
    feed.put("a")
    feed.finish()
    kafka.delete("bucketed")
    kafka.create("bucketed", partitions=4)
    again = Feed(kafka, partition_by="uid")
    again.put("b")
    again.finish()
    assert len(kafka.values("bucketed")) == 1


def test_a_commit_without_a_layout_as_older_versions_wrote_it_is_gone_on_from(kafka: FakeKafka) -> None:
    feed = Feed(kafka)
    feed.put("a")
    feed.finish()
    committed = kafka.group("bucketer", "feed").committed
    committed[0] = committed[0]._replace(metadata=" ".join(committed[0].metadata.split(" ")[:2]))
    feed.put("b")
    feed.start()
    feed.finish()
    assert [json.loads(value or b"")["uid"] for value in kafka.values("bucketed")] == ["a", "b"]
    layout = OffsetMetadata.parsed(committed[0].metadata).layout
    assert layout is not None
    assert layout[1:] == (feed.config.bucketer.partition_by, 1)


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
    with pytest.raises(TopicError, match=r"topic 'bucketed' takes none of the records .*: raise its max.message.bytes"):
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
    assert "5 frames read = 2 accepted + 3 rejected (too_large 3), lag 0" in out
    assert "feed-0: passing offsets 1 to 3: it unpacks to too much" in err
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
    assert capsys.readouterr().err.count("a topic that is written was deleted and recreated; reading again") == 1


def test_what_is_left_of_partitions_that_are_not_open_is_not_said_to_be_nothing(
    feed: Feed, capsys: pytest.CaptureFixture[str]
) -> None:
    feed.kafka.delete("feed")
    feed.bucketing.report()
    assert capsys.readouterr().out.endswith("rejected, no topic 'feed'\n")
