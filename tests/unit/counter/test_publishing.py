"""What a counter publishes was saved before, is never taken back, and comes again where `counts` was recreated."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_counter import MINUTE, Counter, settle
from fakes import FakeAdmin


def test_the_groups_offsets_follow_what_is_saved_for_lag_tools(counter: Counter) -> None:
    for uid in "abc":
        counter.put(uid)
    counter.step()
    assert FakeAdmin(counter.kafka).lag("counter", "bucketed") == 3
    counter.clock.advance(1)
    counter.step()
    assert FakeAdmin(counter.kafka).lag("counter", "bucketed") == 0


def test_what_is_published_was_saved_before(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    class CrashError(Exception):
        pass

    def crash(*_: object) -> None:
        raise CrashError

    counter.put("a")
    counter.step()
    monkeypatch.setattr(next(iter(counter.counting.partitions.open.values()))._store, "save", crash)
    counter.clock.advance(1)
    with pytest.raises(CrashError):
        counter.counting.step()
    assert counter.published() == {}


def test_counts_that_could_not_be_published_stay_due(counter: Counter) -> None:
    counter.put("a")
    counter.step()
    counter.kafka.refuse_after = 0
    counter.clock.advance(1)
    counter.step()
    assert counter.published() == {}
    counter.clock.advance(1)
    counter.step()
    assert counter.published() == {MINUTE: 1}


def test_counts_that_a_crash_kept_from_being_published_are_published_after_the_restart(counter: Counter) -> None:
    counter.put("a")
    counter.step()
    for ledger in counter.counting.partitions.open.values():
        ledger.save()
    counter.crash()
    counter.start()
    counter.step(2)
    counter.clock.advance(1)
    counter.step()
    assert counter.published() == {MINUTE: 1}


def history(counter: Counter) -> list[int]:
    """Every count that was published of MINUTE, in order."""
    return [json.loads(value or b"")["unique_users"] for value in counter.kafka.values("counts")]


def test_a_counter_with_another_state_publishes_nothing_before_it_is_where_the_first_may_have_been(
    counter: Counter, tmp_path: Path
) -> None:
    """first   u0 … u9   published 10   | CRASH      second   u0   (saved)   u1 … u9   published 10"""
    for number in range(10):
        counter.put(f"u{number}")
    settle(counter)
    counter.crash()
    counter.kafka.records_per_poll = 1
    second = Counter(counter.kafka, tmp_path / "other")
    for _ in range(14):
        second.step()
        second.clock.advance(1)
    assert second.held() == {MINUTE: 10}
    assert history(counter) == sorted(history(counter))
    assert history(counter)[-1] == 10
    second.crash()


def test_a_counter_that_lost_its_partition_unnoticed_publishes_nothing_more(counter: Counter) -> None:
    counter.put("a")
    settle(counter)
    counter.step()
    counter.put("b")
    counter.step()
    counter.evict()
    counter.clock.advance(1)
    counter.counting.save()
    assert history(counter) == [1]


def test_a_counter_that_was_frozen_between_its_commit_and_its_publishing_asks_the_group_again(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """records  a | commit accepted, FROZEN, the group gives its partition away | nothing published"""
    counter.put("a")
    counter.step()
    accepted = counter.consumer.commit

    def commit_and_freeze(positions: Any, timeout_seconds: float) -> bool:
        done = accepted(positions, timeout_seconds)
        counter.clock.advance(5)
        counter.evict()
        return done

    monkeypatch.setattr(counter.consumer, "commit", commit_and_freeze)
    counter.clock.advance(1)
    counter.counting.save()
    monkeypatch.undo()
    counter.counting.save()
    assert counter.published() == {}
    counter.finish()
    assert counter.published() == counter.expected()


def test_counts_that_were_deleted_and_recreated_get_all_that_is_held_and_what_came_meanwhile(
    counter: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    counter.put("a")
    counter.put("a", MINUTE + 60)
    counter.step(5)
    counter.counting.save()
    assert counter.published() == counter.expected()
    counter.kafka.delete("counts")
    counter.put("b")
    counter.step(3)
    counter.counting.save()
    counter.counting.report()
    assert "lag 0, no topic 'counts'" in capsys.readouterr().out
    counter.kafka.create("counts")
    counter.topics.recreations += 1
    counter.counting.save()
    assert counter.published() == counter.expected() == {MINUTE: 2, MINUTE + 60: 1}
    assert capsys.readouterr().err.count("publishing all counts again") == 1


@pytest.mark.parametrize("away", [False, True], ids=["restarts", "stays away for a while"])
def test_counts_that_the_broker_lost_are_published_again(counter: Counter, away: bool) -> None:  # noqa: FBT001
    """records  a b | published | the broker comes back without the end of counts | nothing more arrives"""
    counter.put("a")
    counter.put("b", MINUTE + 60)
    counter.step(5)
    counter.counting.save()
    counter.kafka.away = away
    counter.step()
    counter.counting.save()
    counter.kafka.away = False
    counter.kafka.cut_back("counts", 1)
    counter.step()
    counter.counting.save()
    assert counter.published() == counter.expected() == {MINUTE: 1, MINUTE + 60: 1}


def test_what_was_counted_of_a_bucketed_that_is_gone_is_not_published_into_new_counts(counter: Counter) -> None:
    counter.put("a")
    counter.step(2)
    counter.counting.save()
    counter.kafka.delete("bucketed")
    counter.kafka.delete("counts")
    counter.kafka.create("counts")
    counter.topics.recreations += 1
    counter.counting.save()
    assert counter.published() == {}
    counter.kafka.create("bucketed")
    counter.put_users.clear()
    counter.put("b", MINUTE + 60)
    counter.step(5)
    counter.counting.save()
    assert counter.published() == {MINUTE + 60: 1}
