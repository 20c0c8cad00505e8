"""Partitions that change hands: each is counted by one counter, with one state."""

from pathlib import Path

import pytest
from fake_counter import MINUTE, Counter
from fakes import FakeKafka

from unique_users.errors import StateError


def test_a_partition_that_is_lost_is_saved_and_counted_by_its_next_owner(kafka: FakeKafka, tmp_path: Path) -> None:
    kafka.topics.pop("bucketed")
    kafka.create("bucketed", partitions=2)
    first = Counter(kafka, tmp_path)
    first.step()
    first.put("a", MINUTE, 0)
    first.put("b", MINUTE + 60, 1)
    first.step()
    second = Counter(kafka, tmp_path)
    kafka.assign({first.consumer: [0], second.consumer: [1]})
    kafka.group("counter", "bucketed").members.append(second.consumer)
    second.counting.step()
    assert second.held() == {}, "its state is still in the first one's hands"
    first.step()
    assert first.held() == {MINUTE: 1}
    second.counting.step()
    assert second.held() == {MINUTE + 60: 1}
    assert second.consumer.position(1) == 1
    first.crash()
    second.crash()


def test_two_counters_with_one_state_are_an_error_after_a_while(counter: Counter) -> None:
    other = Counter(counter.kafka, Path(counter.config.state.directory))
    counter.kafka.group("counter", "bucketed").members.append(other.consumer)
    counter.kafka.assign({other.consumer: [0]})
    while counter.clock.monotonic() < 30:
        assert other.counting.step()
        counter.clock.advance(5)
    counter.clock.advance(1)
    with pytest.raises(StateError, match="in use by another process"):
        other.counting.step()


def test_a_partition_that_comes_back_goes_on_from_its_own_state_however_old_that_is(
    kafka: FakeKafka, tmp_path: Path
) -> None:
    """first: a │ second, with a state of its own: a b c │ first again: a from its state, b and c from the topic."""
    first = Counter(kafka, tmp_path / "first")
    first.step()
    first.put("a")
    first.step()
    second = Counter(kafka, tmp_path / "second")
    kafka.group("counter", "bucketed").members.append(second.consumer)
    kafka.assign({first.consumer: [], second.consumer: [0]})
    first.step()
    assert first.held() == {}
    for uid in "bc":
        first.put(uid)
    second.step(3)
    assert second.held() == {MINUTE: 3}
    assert second.counting.partitions.open[0].position == 3
    kafka.assign({first.consumer: [0], second.consumer: []})
    second.step()
    first.step()
    assert first.counting.partitions.open[0].saved_offset == 1
    first.step()
    assert first.held() == {MINUTE: 3}
    first.crash()
    second.crash()


def test_wide_intervals_of_a_topic_with_more_partitions_than_configured_are_refused(
    kafka: FakeKafka, tmp_path: Path
) -> None:
    kafka.create("bucketed", partitions=2)
    counter = Counter(kafka, tmp_path, intervals=["hour"])
    with pytest.raises(StateError, match="a user would be counted in each of them"):
        counter.counting.step()
