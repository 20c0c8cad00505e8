"""What a process has done, in plain numbers."""

from random import Random

import pytest

from unique_users.runtime.activity import Activity, Distribution, Step


def test_a_step_that_fails_took_its_time_too() -> None:
    activity = Activity()
    with pytest.raises(ValueError, match="no"), activity.timed(Step.SAVE):
        raise ValueError("no")
    assert sum(activity.steps[Step.SAVE].counts) == 1
    assert sum(activity.steps[Step.POLL].counts) == 0


def test_the_bytes_of_a_few_records_are_counted() -> None:
    activity = Activity()
    activity.received([b"k", None], [b"abc", None])
    activity.sent("feed", (), [b"abc"])
    assert (activity.records_in, activity.bytes_in) == (2, 4)
    assert (activity.records_out, activity.bytes_out) == ({"feed": 1}, {"feed": 3})


def test_the_bytes_of_many_records_are_estimated() -> None:
    activity = Activity()
    activity.received([None] * 1_000, [b"abc"] * 1_000)
    assert activity.bytes_in == 3_000
    values = [bytes(size) for size in Random(1).choices(range(1_500, 2_500), k=10_000)]
    activity.sent("feed", [b"1468244340"] * 10_000, values)
    assert activity.bytes_out["feed"] == pytest.approx(100_000 + sum(map(len, values)), rel=0.01)


def test_a_value_on_a_bound_belongs_to_it() -> None:
    distribution = Distribution((0, 1))
    for value in (0, 0.5, 1, 1.5):
        distribution.add(value)
    assert distribution.counts == [1, 2, 1]
