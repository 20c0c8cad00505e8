from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from counted_intervals import CRASH, ORIGIN, SAVE, TIMES, ZONES, Counted
from fake_counter import Counter, settle
from fakes import FakeKafka
from hypothesis import given, settings
from hypothesis import strategies as st

from unique_users.event_time.buckets import INTERVALS, Bucket, Calendar
from unique_users.event_time.rollup import Rollup
from unique_users.state.store import Store

changes = st.tuples(st.sets(st.sampled_from(INTERVALS)), st.sampled_from(ZONES))
records = st.tuples(st.sampled_from(TIMES), st.sets(st.sampled_from("abcdef"), min_size=1, max_size=3))
events = st.lists(records | records | st.sampled_from([CRASH, SAVE]) | changes.map(list), max_size=25)


def plain(stream: Iterable[tuple[int, Iterable[str]]], rollup: Rollup) -> dict[Bucket, int]:
    """The counts by a set for each bucket of each interval."""
    users: dict[Bucket, set[str]] = {}
    for minute, uids in stream:
        for name in rollup.intervals:
            users.setdefault(Bucket(name, rollup.calendar.start(name, minute)), set()).update(uids)
    return {bucket: len(found) for bucket, found in users.items()}


@settings(max_examples=150)
@given(events, st.integers(0, 12))
def test_every_interval_is_counted_as_by_plain_sets_whatever_happens(events: Sequence[Any], uids_max: int) -> None:
    """records, saves, crashes, other intervals and other zones in any order, with any memory"""
    with TemporaryDirectory() as directory:
        counted = Counted(Path(directory), uids_max)
        for event in events:
            if event == SAVE:
                counted.ledger.save()
            elif event == CRASH:
                counted.ledger.close()
                counted.open()
            elif isinstance(event, list):
                counted.ledger.close()
                counted.rollup = Rollup(Calendar(event[1]), event[0])
                counted.open()
            else:
                counted.log.append(event)
            counted.read_on()
            assert counted.counts() == plain(counted.log, counted.rollup)
        counted.ledger.save()
        counted.ledger.close()
        store = Store(Path(directory), ORIGIN)
        assert store.counts == plain(counted.log, counted.rollup)
        assert all(len(set(store.load(bucket))) == count for bucket, count in store.counts.items())
        store.close()


def test_only_who_is_new_in_a_narrower_bucket_is_looked_at_in_a_wider_one() -> None:
    berlin = Rollup(Calendar("Europe/Berlin"), INTERVALS)
    assert [step.source for step in berlin.steps(TIMES[0])] == [0, 0, 1, 2, 3, 4, 5], "this week lies in one month"
    kolkata = Rollup(Calendar("Asia/Kolkata"), INTERVALS)
    midnight = int(datetime.fromisoformat("2016-10-30T18:30:00Z").timestamp())
    assert [step.source for step in kolkata.steps(midnight)] == [0, 0, 1, 1, 3, 3, 5], "an hour lies in two days"


def test_equal_users_are_one_text_in_memory_in_all_buckets(tmp_path: Path) -> None:
    counted = Counted(tmp_path, 1_000)
    counted.log = [(TIMES[0], {"user 1"}), (TIMES[0] + 60, {"user 1"}), (TIMES[-1], {"user 1"})]
    counted.read_on()
    sets = counted.ledger._users._users.values()
    assert len({id(uid) for users in sets for uid in users}) == 1
    counted.ledger.close()


def test_short_intervals_leave_memory_before_long_ones(tmp_path: Path) -> None:
    counted = Counted(tmp_path, 1_000)
    counted.rollup = Rollup(Calendar(), ["month"])
    counted.ledger.close()
    counted.open()
    counted.log = [(TIMES[0], {"a", "b"}), (TIMES[-1], {"c"}), (TIMES[-1] + 60, {"d"})]
    counted.read_on()
    counted.ledger.save()
    users = counted.ledger._users
    assert users.evict(5)
    assert [bucket.interval for bucket in users._users] == ["month", "minute", "month"]
    assert users.evict(0), "the bucket of each interval that was used last stays"
    assert [bucket.interval for bucket in users._users] == ["minute", "month"]
    counted.ledger.close()


def test_late_users_bring_no_minute_back_each_time_where_wide_buckets_take_all_memory(tmp_path: Path) -> None:
    """memory for 40 of a month's 100 users: the last minute stays, and 4 users of others: no minute is read again"""
    counted = Counted(tmp_path, 40)
    counted.rollup = Rollup(Calendar(), ["month"])
    counted.ledger.close()
    counted.open()
    counted.log = [(TIMES[0], {f"user {number}" for number in range(100)})]
    counted.read_on()
    users = counted.ledger._users
    reads: list[Bucket] = []
    load = users._load
    users._load = lambda bucket: reads.append(bucket) or load(bucket)  # type: ignore[func-returns-value]
    late = [(TIMES[0] + 120 + 60 * (number % 2), {f"late {number}"}) for number in range(6)]
    counted.log += late
    counted.read_on()
    assert reads == []
    assert [bucket.interval for bucket in users._users] == ["minute", "minute", "month"]
    counted.ledger.close()


def test_memory_is_given_back_when_many_users_have_left_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """minutes of two users in memory for four: one leaves for each that comes, and every second time makes it four"""
    given_back: list[int] = []
    monkeypatch.setattr("unique_users.counter.partition.GIVE_BACK_UIDS", 4)
    counted = Counted(tmp_path, 4)
    monkeypatch.setattr(
        "unique_users.counter.partition.give_memory_back",
        lambda: given_back.append(counted.ledger._users.uids_in_memory),
    )
    counted.rollup = Rollup(Calendar())
    counted.ledger.close()
    counted.open()
    counted.log = [(60 * minute, {"a", "b"}) for minute in range(8)]
    counted.read_on()
    assert given_back == [4, 4, 4]
    counted.ledger.close()


DAY = 86_400


def test_a_month_stays_until_its_end_is_past_the_retention_though_its_minutes_left(
    kafka: FakeKafka, tmp_path: Path
) -> None:
    """minutes   June 30: a b  |  July 3: 101 others, June 30 leaves  | July 3: a, who is new in July only once"""
    counter = Counter(kafka, tmp_path, retention_seconds=DAY, intervals=["minute", "month", "year"])
    june = int(datetime.fromisoformat("2016-06-30T12:00:00Z").timestamp())
    july = june + 3 * DAY
    counter.step()
    for uid in "ab":
        counter.put(uid, june)
    for number in range(101):
        counter.put(f"u{number}", july)
    counter.bucketers_are_at(july)
    for _ in range(3):
        counter.step()
        counter.clock.advance(1)
    counter.put("a", july)
    counter.put("a", july + 60)
    for _ in range(3):
        counter.step()
        counter.clock.advance(1)
    months = [Calendar().start("month", at) for at in (june, july)]
    year = Bucket("year", Calendar().start("year", june))
    kept = {
        Bucket("minute", july): 102, Bucket("minute", july + 60): 1, Bucket("month", months[1]): 102, year: 103,
    }  # fmt: skip
    assert counter.all_held() == kept
    assert counter.all_published() == {**kept, Bucket("minute", june): 2, Bucket("month", months[0]): 2}
    counter.crash()


def test_a_counter_beside_the_bucketers_drops_what_is_past_its_retention_as_it_goes(
    kafka: FakeKafka, tmp_path: Path
) -> None:
    """bucketed   101 records in each of 40 hours, retention 2 hours"""
    counter = Counter(kafka, tmp_path, retention_seconds=7_200, intervals=["minute", "hour"])
    start = Calendar().start("hour", TIMES[0])
    held = 0
    for number in range(40):
        for user in range(101):
            counter.put(f"u{user}", start + number * 3_600)
        counter.bucketers_are_at(start + number * 3_600)
        for _ in range(2):
            counter.counting.step()
            counter.clock.advance(1)
        held = max(held, len(counter.all_held()))
    assert held <= 2 * (2 + 2)
    settle(counter)
    assert counter.published() == counter.expected()
    counter.crash()


def test_a_report_names_the_last_count_of_what_was_dropped_since_the_last_one(
    kafka: FakeKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counter = Counter(kafka, tmp_path, retention_seconds=600)
    counter.step()
    counter.put("a", TIMES[0])
    for number in range(101):
        counter.put(f"u{number}", TIMES[0] + 3_600)
    counter.bucketers_are_at(TIMES[0] + 3_600)
    for _ in range(3):
        counter.step()
        counter.clock.advance(1)
    assert len(counter.held()) == 1
    counter.counting.report()
    assert "2016-10-29T22:00:00Z  minute  1 unique users  +1" in capsys.readouterr().out
    counter.crash()


def test_reports_and_counts_hold_the_configured_intervals_from_short_to_long(
    kafka: FakeKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counter = Counter(kafka, tmp_path, intervals=["day", "hour"], timezone="Europe/Berlin")
    counter.step()
    for at in TIMES[:2]:
        counter.put("a", at)
    for _ in range(3):
        counter.step()
        counter.clock.advance(1)
    counter.counting.report()
    assert capsys.readouterr().out.splitlines()[:3] == [
        "2016-10-29T22:00:00Z  hour  1 unique users  +1",
        "2016-10-30T00:00:00Z  hour  1 unique users  +1",
        "2016-10-30T00:00:00+02:00  day  1 unique users  +1",
    ]
    assert {bucket.interval for bucket in counter.all_published()} == {"hour", "day"}
    counter.crash()
