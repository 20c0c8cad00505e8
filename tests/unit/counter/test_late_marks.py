"""Marks that come when the bucket is closed already, or when nobody can say yet where the loss ends."""

from pathlib import Path
from typing import Any

import pytest
from fake_counter import MINUTE, Counter, settle
from fakes import FakeKafka, FakeStop
from msgspec.structs import replace

from unique_users.aggregation.completeness import Gap, Why
from unique_users.clients.protocols import Position
from unique_users.errors import BrokerError
from unique_users.event_time.buckets import Bucket
from unique_users.messages.merged_counts import PublishedBucket, ReadCounts
from unique_users.messages.offset_metadata import OffsetMetadata

FIRST = Bucket("minute", MINUTE)
LATER = MINUTE + 3 * 86_400
CUT, DELETED, LATE = Why.LOG_CUT_BACK, Why.RECORDS_DELETED, Why.FILLED_LATE


def counter_of(kafka: FakeKafka, directory: Path, stop: FakeStop, partitions: int = 1, **rules: Any) -> Counter:
    kafka.topics.pop("bucketed", None)
    kafka.create("bucketed", partitions)
    counter = Counter(kafka, directory, stop, retention_seconds=86_400, **rules)
    counter.step()
    return counter


def read(counter: Counter, uids: str, minute: int = MINUTE, partition: int = 0) -> None:
    for uid in uids:
        counter.put(uid, minute, partition)
    settle(counter)


def lose_state(counter: Counter) -> None:
    counter.crash()
    for file in Path(counter.config.state.directory).iterdir():
        file.unlink()
    counter.clock.advance(1)
    counter.start()
    settle(counter)


def test_a_bucket_that_was_closed_before_a_cut_was_noticed_is_marked(
    kafka: FakeKafka, stop: FakeStop, tmp_path: Path
) -> None:
    """bucketed   x │ a b   later, a's minute is closed   | cut back to x, which nobody notices before |   c"""
    counter = counter_of(kafka, tmp_path, stop)
    read(counter, "x", MINUTE - 600)
    read(counter, "ab")
    read(counter, "z", LATER)
    counter.bucketers_are_at(LATER)
    settle(counter)
    assert counter.held() == {LATER: 1}
    assert counter.read_published()[FIRST] == PublishedBucket(2)
    kafka.cut_back("bucketed", 1)
    read(counter, "c", LATER)
    assert counter.read_published()[FIRST] == PublishedBucket(2, (CUT,))
    assert counter.read_published()[Bucket("minute", MINUTE - 600)] == PublishedBucket(1)
    counter.crash()


def test_counts_of_a_lost_state_give_way_to_what_a_log_that_was_cut_back_holds(
    kafka: FakeKafka, stop: FakeStop, tmp_path: Path
) -> None:
    """bucketed   a │ b, and c in a minute of its own   | cut back to a, the state is lost"""
    counter = counter_of(kafka, tmp_path, stop)
    read(counter, "ab")
    read(counter, "c", MINUTE + 60)
    kafka.cut_back("bucketed", 1)
    lose_state(counter)
    assert counter.read_published() == {FIRST: PublishedBucket(1)}
    counter.crash()
    counter.start()
    read(counter, "d")
    assert counter.read_published() == {FIRST: PublishedBucket(2)}
    counter.crash()


def test_counts_of_a_lost_state_stay_where_the_log_holds_as_much_or_its_start_is_gone(
    kafka: FakeKafka, stop: FakeStop, tmp_path: Path
) -> None:
    """bucketed   a b   | the state is lost |   nothing is deleted   | b's record is trimmed, the state is lost again"""
    counter = counter_of(kafka, tmp_path, stop)
    read(counter, "ab")
    lose_state(counter)
    assert None not in kafka.values("counts")
    read(counter, "c", MINUTE + 60)
    kafka.trim("bucketed", 0, 2)
    lose_state(counter)
    assert counter.read_published()[FIRST] == PublishedBucket(2)
    counter.crash()


def test_a_crash_while_former_counts_are_replaced_deletes_none_of_its_own(
    kafka: FakeKafka, stop: FakeStop, tmp_path: Path
) -> None:
    """What is closed is compared before it leaves the state, or not at all."""
    counter = counter_of(kafka, tmp_path, stop)
    read(counter, "ab")
    read(counter, "z", LATER)
    counter.bucketers_are_at(LATER)
    lose_state(counter)
    for _ in range(4):
        counter.crash()
        counter.start()
        counter.step(2)
        counter.clock.advance(1)
        assert counter.read_published()[FIRST] == PublishedBucket(2)
    settle(counter)
    assert counter.held() == {LATER: 1}
    counter.crash()


def test_without_the_right_to_read_counts_a_counter_begins_anew_and_says_what_it_cannot_do(
    kafka: FakeKafka,
    stop: FakeStop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(*_: object) -> ReadCounts:
        raise BrokerError("no right to read 'counts'")

    monkeypatch.setattr(Counter, "read_counts", refused)
    counter = counter_of(kafka, tmp_path, stop)
    read(counter, "ab")
    said = capsys.readouterr().err
    assert said.count("which may be too high: no right to read 'counts'") == 1
    assert counter.read_published()[FIRST] == PublishedBucket(2)
    counter.crash()


def test_an_interval_that_is_added_lacks_all_that_a_partition_has_dropped(
    kafka: FakeKafka, stop: FakeStop, tmp_path: Path
) -> None:
    """partition 0   a, closed   later   | partition 1   b, which is not read up to the end yet   | hours are added"""
    counter = counter_of(kafka, tmp_path, stop, partitions=2)
    counter.put("a", MINUTE, 0)
    read(counter, "b", MINUTE, 1)
    read(counter, "z", LATER, 0)
    first, second = (counter.counting.partitions.open[p] for p in (0, 1))
    first.follow(LATER, 0)
    first.save()
    first.drop_old()
    assert (first.buckets(), second.buckets()) == ({Bucket("minute", LATER)}, {FIRST})
    counter.crash()
    counter.config = replace(
        counter.config,
        bucketer=replace(counter.config.bucketer, partition_by="uid"),
        counter=replace(counter.config.counter, intervals=["minute", "hour"]),
    )
    counter.start()
    settle(counter)
    hour = Bucket("hour", MINUTE - MINUTE % 3_600)
    assert counter.read_published()[hour] == PublishedBucket(1, (LATE,))
    assert LATE in counter.counting.partitions.why(hour), "in the report, too"
    assert counter.read_published()[FIRST] == PublishedBucket(2)
    counter.crash()


def test_frames_that_were_all_deleted_unread_are_marked_before_another_one_comes(
    kafka: FakeKafka, stop: FakeStop, tmp_path: Path
) -> None:
    """feed   read up to MINUTE │ deleted, and nothing after it   | a frame comes, which tells where the loss ends"""
    counter = counter_of(kafka, tmp_path, stop)
    counter.bucketers_are_at(MINUTE + 30)
    read(counter, "a")
    read(counter, "z", LATER)
    read(counter, "o", MINUTE - 2 * 86_400)
    kafka.append("feed", b"a frame")
    kafka.trim("feed", 0, kafka.topics["feed"].partitions[0].end)
    settle(counter)
    marked = PublishedBucket(1, (DELETED,))
    found = counter.read_published()
    assert (found[FIRST], found[Bucket("minute", LATER)]) == (marked, marked)
    assert found[Bucket("minute", MINUTE - 2 * 86_400)] == PublishedBucket(1), "a frame of then would have been late"
    line = counter.counting._progress.current()
    assert line is not None
    assert line.unread == 0, "nobody waits for what is gone"
    counter.crash()
    counter.start()
    settle(counter)
    committed = kafka.group("bucketer", "feed").committed
    told = OffsetMetadata.parsed(committed[0].metadata)._replace(gaps=(Gap("", MINUTE, MINUTE + 60, DELETED),))
    kafka.append("feed", b"a frame")
    committed[0] = Position(kafka.topics["feed"].partitions[0].end, told.text())
    settle(counter)
    found = counter.read_published()
    assert (found[FIRST], found[Bucket("minute", LATER)]) == (marked, PublishedBucket(1))
    counter.crash()
