"""What a process has done, in plain numbers."""

import pytest

from unique_users.runtime.activity import Activity, Distribution, Step


def test_a_step_that_fails_took_its_time_too() -> None:
    activity = Activity()
    with pytest.raises(ValueError, match="no"), activity.timed(Step.SAVE):
        raise ValueError("no")
    assert sum(activity.steps[Step.SAVE].counts) == 1
    assert sum(activity.steps[Step.POLL].counts) == 0


def test_bytes_are_counted_only_if_somebody_wants_them() -> None:
    activity = Activity()
    activity.received([b"k", None], [b"abc", None])
    activity.sent("feed", (), [b"abc"])
    assert (activity.records_in, activity.bytes_in) == (2, 0)
    assert (activity.records_out, activity.bytes_out.total()) == ({"feed": 1}, 0)
    activity.measured = True
    activity.received([b"k", None], [b"abc", None])
    activity.sent("feed", (), [b"abc"])
    assert (activity.records_in, activity.bytes_in) == (4, 4)
    assert activity.bytes_out == {"feed": 3}


def test_a_value_on_a_bound_belongs_to_it() -> None:
    distribution = Distribution((0, 1))
    for value in (0, 0.5, 1, 1.5):
        distribution.add(value)
    assert distribution.counts == [1, 2, 1]
