"""Counts leave `counts` when they are older than counter.publish_keep_days: once, and not before they are closed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_counter import MINUTE, Counter, settle
from fakes import FakeKafka, FakeStop
from msgspec.structs import replace

from unique_users.aggregation.completeness import Gap, Why
from unique_users.counter import partition
from unique_users.counter.publish_keep import PublishKeep
from unique_users.errors import BrokerError
from unique_users.event_time.buckets import Bucket, Calendar, IntervalName
from unique_users.messages.counts import encode_count, key_of

DAY = 86_400
LATER = MINUTE + 20 * DAY
KEEP: dict[IntervalName, int] = {"minute": 10, "5 minutes": 10}
RULES: dict[str, Any] = {"intervals": ["minute", "day"], "publish_keep_days": KEEP}


@pytest.fixture
def counter(kafka: FakeKafka, stop: FakeStop, tmp_path: Path) -> Iterator[Counter]:
    counter = Counter(kafka, tmp_path / "state", stop, **RULES)
    counter.step()
    yield counter
    counter.crash()


def old_and_new(counter: Counter) -> None:
    """Users at MINUTE and 20 days later, counted as they come; the bucketers are there, too."""
    counter.put("a")
    counter.bucketers_are_at(MINUTE)
    settle(counter)
    counter.put("b", LATER)
    counter.bucketers_are_at(LATER)
    settle(counter)
    counter.clock.advance(1_000)
    settle(counter)


def tombstones(counter: Counter) -> list[bytes | None]:
    pairs = zip(counter.kafka.keys("counts"), counter.kafka.values("counts"), strict=True)
    return [key for key, value in pairs if value is None]


def test_a_minute_older_than_it_is_kept_leaves_counts_and_its_day_stays(counter: Counter) -> None:
    """minute kept 10 days   |a ........ 20 days ........ b|   counts: a's day, b's day, b's minute"""
    old_and_new(counter)
    assert tombstones(counter) == [key_of(Bucket("minute", MINUTE), 0)]
    day = Bucket("day", Calendar().start("day", MINUTE))
    assert counter.all_published() == {
        day: 1,
        day._replace(start=day.start + 20 * DAY): 1,
        Bucket("minute", LATER): 1,
    }


def test_a_minute_that_is_not_that_old_stays(counter: Counter) -> None:
    counter.put("a")
    settle(counter)
    counter.put("b", MINUTE + 9 * DAY)
    counter.bucketers_are_at(MINUTE + 9 * DAY)
    settle(counter)
    counter.clock.advance(1_000)
    settle(counter)
    assert tombstones(counter) == []
    assert counter.published() == {MINUTE: 1, MINUTE + 9 * DAY: 1}
    assert MINUTE not in counter.held(), "it has left the state"


def test_a_restart_withdraws_nothing_twice(counter: Counter) -> None:
    old_and_new(counter)
    before = counter.kafka.keys("counts")
    for _ in range(3):
        counter.crash()
        counter.start()
        settle(counter)
        counter.clock.advance(1_000)
        settle(counter)
    now = counter.kafka.keys("counts")[len(before) :]
    assert key_of(Bucket("minute", MINUTE), 0) not in now
    assert len(tombstones(counter)) == 1


def test_a_crash_before_the_tombstones_are_acknowledged_is_made_good(counter: Counter) -> None:
    counter.put("a")
    counter.bucketers_are_at(MINUTE)
    settle(counter)
    counter.put("b", LATER)
    counter.bucketers_are_at(LATER)
    settle(counter)
    assert counter.published() == {MINUTE: 1, LATER: 1}, "a look every ten minutes"
    counter.clock.advance(1_000)
    counter.kafka.refuse_after = 0
    counter.step(2)
    counter.crash()
    assert tombstones(counter) == []
    counter.kafka.refuse_after = None
    counter.start()
    settle(counter)
    assert counter.published() == {LATER: 1}


def test_a_counter_that_lost_its_state_does_not_raise_the_dead(counter: Counter, tmp_path: Path) -> None:
    """counts: a's minute was withdrawn | CRASH, another counter without a state reads all of bucketed"""
    old_and_new(counter)
    before = len(counter.kafka.keys("counts"))
    counter.crash()
    second = Counter(counter.kafka, tmp_path / "other", **RULES)
    for _ in range(8):
        settle(second)
    assert second.published() == {LATER: 1}
    assert key_of(Bucket("minute", MINUTE), 0) not in counter.kafka.keys("counts")[before:]
    second.crash()


def test_without_a_low_watermark_everything_is_published_in_the_end(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may be allowed to see how far the bucketers are: old counts wait for a while, not forever."""
    monkeypatch.setattr(partition, "WAITS_MAX", 5)
    monkeypatch.setattr(type(counter.counting._progress), "current", lambda _: None)
    counter.crash()
    counter.start()
    counter.put("a")
    counter.put("b", LATER)
    settle(counter)
    assert counter.published() == {LATER: 1}
    settle(counter)
    settle(counter)
    assert counter.published() == {MINUTE: 1, LATER: 1}


def test_what_a_former_state_published_leaves_counts_too(counter: Counter) -> None:
    key, value = encode_count(
        Bucket("minute", MINUTE - DAY), 0, 7, Calendar(), generation=f"20100101T000000Z-{'x' * 8}"
    )
    counter.kafka.append("counts", value, key=key)
    old_and_new(counter)
    assert set(tombstones(counter)) == {key, key_of(Bucket("minute", MINUTE), 0)}


def test_another_partitions_counts_are_left_to_its_counter(counter: Counter) -> None:
    key, value = encode_count(Bucket("minute", MINUTE), 1, 7, Calendar())
    counter.kafka.append("counts", value, key=key)
    old_and_new(counter)
    assert tombstones(counter) == [key_of(Bucket("minute", MINUTE), 0)]


def test_counts_from_before_there_was_such_a_setting_stay(counter: Counter, capsys: pytest.CaptureFixture[str]) -> None:
    """An older version kept everything: its state meets the setting | 20 days more: what came since then goes"""
    counter.put("a")
    counter.bucketers_are_at(MINUTE)
    settle(counter)
    counter.put("b", LATER)
    counter.bucketers_are_at(LATER)
    (each,) = counter.counting.partitions.open.values()
    each.facts = replace(each.facts, counts_kept_before=None, counts_withdrawn_until=0)
    settle(counter)
    counter.clock.advance(1_000)
    settle(counter)
    assert counter.published() == {MINUTE: 1, LATER: 1}
    said = capsys.readouterr().err
    assert "1 counts older than counter.publish_keep_days were in 'counts' before that key existed: they stay" in said
    counter.put("c", LATER + 20 * DAY)
    counter.bucketers_are_at(LATER + 20 * DAY)
    settle(counter)
    counter.clock.advance(1_000)
    settle(counter)
    assert counter.published() == {MINUTE: 1, LATER + 20 * DAY: 1}


def test_without_the_right_to_read_counts_everything_stays_and_it_is_said_once(
    counter: Counter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> None:
        raise BrokerError("no right to read 'counts'")

    counter.crash()
    monkeypatch.setattr(counter, "read_counts", refused)
    counter.start()
    old_and_new(counter)
    counter.clock.advance(1_000)
    settle(counter)
    assert counter.published() == {MINUTE: 1, LATER: 1}
    assert capsys.readouterr().err.count("counts in 'counts' stay there for good, because they cannot be read") == 1


def test_many_leave_in_several_publications(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "OLD_AT_ONCE", 2)
    for number in range(5):
        counter.put("a", MINUTE + 60 * number)
    old_and_new(counter)
    settle(counter)
    assert len(tombstones(counter)) == 5
    assert counter.published() == {LATER: 1}


def test_marks_of_what_left_do_not_come_back(counter: Counter) -> None:
    old_and_new(counter)
    (each,) = counter.counting.partitions.open.values()
    before = len(counter.kafka.keys("counts"))
    each.mark([Gap("", MINUTE, LATER + 60, Why.RECORDS_DELETED)])
    settle(counter)
    assert counter.published() == {LATER: 1}
    assert key_of(Bucket("minute", MINUTE), 0) not in counter.kafka.keys("counts")[before:]
    assert counter.read_published()[Bucket("minute", LATER)].why == ("records_deleted",)


@pytest.mark.parametrize(
    ("bucket", "over"),
    [
        (Bucket("minute", MINUTE - 9 * DAY - 60), True),
        (Bucket("minute", MINUTE - 9 * DAY), False),
        (Bucket("5 minutes", MINUTE - 9 * DAY - 240), False),
        (Bucket("day", 0), False),
        (Bucket("hour", 0), False),
    ],
)
def test_days_are_measured_from_the_streams_clock_to_the_end_of_a_bucket(bucket: Bucket, over: bool) -> None:  # noqa: FBT001
    """A low watermark is a day, the allowed lateness, behind the clock: ten days are nine before it."""
    keep = PublishKeep({**KEEP, "hour": 0}, DAY, Calendar())
    assert keep.is_over(bucket, MINUTE) is over
    assert not keep.is_over(bucket, None)


def test_what_may_still_change_stays_however_few_the_days() -> None:
    keep = PublishKeep({"minute": 1}, DAY, Calendar(), open_seconds=2 * DAY)
    assert not keep.is_over(Bucket("minute", MINUTE - 2 * DAY), MINUTE)
    assert keep.is_over(Bucket("minute", MINUTE - 2 * DAY - 60), MINUTE)
