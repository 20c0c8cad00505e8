import pytest
from fakes import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from unique_users.runtime.timer import Timer


@pytest.fixture
def every(clock: FakeClock) -> Timer:
    return Timer(60, clock.monotonic)


def test_it_is_due_when_the_time_has_come_and_once_only(clock: FakeClock, every: Timer) -> None:
    clock.advance(59.9)
    assert not every.due()
    assert every.remaining() == pytest.approx(0.1)
    clock.advance(0.1)
    assert every.remaining() == 0
    assert every.due()
    assert not every.due()
    assert every.remaining() == pytest.approx(60)


def test_due_times_do_not_drift_when_each_is_noticed_late(clock: FakeClock, every: Timer) -> None:
    """due   |60       |120      |180
    noticed     ^70       ^130      ^190
    """
    clock.advance(70)
    for _ in range(20):
        assert every.due()
        assert every.remaining() == pytest.approx(50)
        clock.advance(60)


def test_times_that_were_missed_altogether_are_left_out(clock: FakeClock, every: Timer) -> None:
    """due   |60   |120   |180   |240
    asked                 ^200
    """
    clock.advance(200)
    assert every.due()
    assert not every.due()
    assert every.remaining() == pytest.approx(40)


@given(st.lists(st.floats(0.01, 300), max_size=50))
def test_it_is_due_once_in_each_period_that_was_looked_at(waits: list[float]) -> None:
    clock = FakeClock()
    every = Timer(60, clock.monotonic)
    noticed = []
    for wait in waits:
        clock.advance(wait)
        if every.due():
            noticed.append(clock.monotonic() // 60)
    looked_at = {period for period in _periods(waits) if period >= 1}
    assert noticed == sorted(looked_at)


def _periods(waits: list[float]) -> list[float]:
    periods, now = [], 0.0
    for wait in waits:
        now += wait
        periods.append(now // 60)
    return periods
