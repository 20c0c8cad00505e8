"""What a minute had when the stream passed its end is kept, whatever comes later."""

from pathlib import Path

import pytest
from fake_counter import MINUTE, Counter, settle
from fakes import FakeKafka
from repository import ROOT

from unique_users.aggregation.bucket_users import Origin
from unique_users.counter.end_counts import NOTICED_SECONDS, EndCounts
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.state.store import Store

FIRST, SECOND = Bucket("minute", MINUTE), Bucket("minute", MINUTE + 60)
ORIGIN = Origin("bucketed", "8c6f7a3e-0000-4000-8000-000000000001", 0, 1)


@pytest.fixture
def minutes(kafka: FakeKafka, tmp_path: Path) -> Counter:
    counter = Counter(kafka, tmp_path)
    counter.step()
    return counter


def at_ends(counter: Counter) -> dict[Bucket, int | None]:
    return {bucket: found.at_end for bucket, found in counter.read_published().items()}


def passed(counter: Counter, now: int) -> None:
    """The stream comes to this time, and the counter learns of it, saves and publishes."""
    counter.bucketers_are_at(now)
    settle(counter)


def test_a_late_user_changes_a_minute_and_not_what_it_had_at_its_end(minutes: Counter) -> None:
    """minute 0: a b │ its end │ c comes late"""
    passed(minutes, MINUTE + 10)
    for uid in "ab":
        minutes.put(uid)
    settle(minutes)
    assert at_ends(minutes) == {FIRST: None}, "it has not ended"
    passed(minutes, MINUTE + 61)
    assert at_ends(minutes) == {FIRST: 2}
    minutes.put("c")
    settle(minutes)
    assert at_ends(minutes) == {FIRST: 2}
    assert minutes.published() == {MINUTE: 3}


def test_a_crash_forgets_no_end_count(minutes: Counter) -> None:
    """minute 0: a │ its end │ CRASH │ b comes late"""
    passed(minutes, MINUTE + 10)
    minutes.put("a")
    passed(minutes, MINUTE + 61)
    minutes.crash()
    minutes.put("b")
    minutes.start()
    settle(minutes)
    assert at_ends(minutes) == {FIRST: 1}
    assert minutes.published() == {MINUTE: 2}


def test_a_minute_that_ended_while_no_counter_ran_has_none(minutes: Counter) -> None:
    """minute 0: a │ CRASH │ its end, and b, which may be late │ an hour later"""
    passed(minutes, MINUTE + 10)
    minutes.put("a")
    settle(minutes)
    minutes.crash()
    minutes.put("b")
    minutes.bucketers_are_at(MINUTE + 3_600)
    minutes.start()
    settle(minutes)
    assert at_ends(minutes) == {FIRST: None}
    assert minutes.published() == {MINUTE: 2}


def test_a_minute_whose_first_user_is_late_had_none_at_its_end(minutes: Counter) -> None:
    passed(minutes, MINUTE + 10)
    passed(minutes, MINUTE + 65)
    minutes.put("a")
    settle(minutes)
    assert at_ends(minutes) == {FIRST: 0}


def test_counts_that_are_not_read_yet_do_not_end_a_minute(minutes: Counter) -> None:
    """The stream is past the minute, but records that came before that still lie in bucketed."""
    passed(minutes, MINUTE + 10)
    minutes.put("a")
    settle(minutes)
    minutes.kafka.records_per_poll = 1
    for uid in "bcdefgh":
        minutes.put(uid)
    passed(minutes, MINUTE + 61)
    assert at_ends(minutes) == {FIRST: None}
    for _ in range(4):
        settle(minutes)
    assert at_ends(minutes) == {FIRST: 8}


def test_an_end_that_is_noticed_too_late_is_not_known() -> None:
    ends = EndCounts({}, Calendar())
    counts = {FIRST: 5, SECOND: 3}
    assert ends.follow(MINUTE + 60 + NOTICED_SECONDS, counts) == {SECOND}, "the first one ended a minute ago"
    assert ends.of(counts) == {SECOND: 3}
    ends.note_first([Bucket("minute", MINUTE - 60)])
    assert ends.of([Bucket("minute", MINUTE - 60)]) == {}, "nobody looked when that ended"


def test_the_clock_does_not_go_back_and_nothing_ends_twice() -> None:
    ends = EndCounts({FIRST: 5}, Calendar())
    assert ends.follow(MINUTE + 70, {FIRST: 9}) == set()
    assert ends.of([FIRST]) == {FIRST: 5}
    assert ends.follow(MINUTE + 65, {FIRST: 9, SECOND: 1}) == set()
    assert ends.follow(MINUTE + 120, {FIRST: 9, SECOND: 1}) == {SECOND}
    assert ends.unsaved == {SECOND: 1}


def test_the_state_of_the_form_before_is_gone_on_from_and_knows_no_end_counts(tmp_path: Path) -> None:
    saved = ROOT / "tests" / "data" / "version-0.2" / "bucketed-0.sqlite"
    (tmp_path / saved.name).write_bytes(saved.read_bytes())
    store = Store(tmp_path, ORIGIN)
    counts = {FIRST: 3, SECOND: 1}
    assert (store.counts, store.at_end, store.next_offset) == (counts, {}, 4)
    store.save({}, {}, counts, 5, None, {FIRST: 2})
    store.save({FIRST: ["d"]}, {}, {**counts, FIRST: 4}, 6)
    store.close()
    store = Store(tmp_path, ORIGIN)
    assert (store.counts, store.at_end) == ({**counts, FIRST: 4}, {FIRST: 2})
    store.drop([FIRST], MINUTE + 60)
    store.close()
    store = Store(tmp_path, ORIGIN)
    assert (store.counts, store.at_end) == ({SECOND: 1}, {})
    store.close()
