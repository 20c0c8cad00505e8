"""How long the oldest record has waited, by what was the end of a partition when."""

from collections.abc import Callable

from unique_users.clients.protocols import Admin
from unique_users.errors import BrokerAwayError, BrokerError
from unique_users.metrics.lag_watch import LOOKS_KEPT, Lag, LagWatch


def test_what_is_committed_does_not_wait() -> None:
    lag = Lag()
    lag.look(0, end=100, committed=100)
    assert (lag.records, lag.seconds(50)) == (0, 0.0)


def test_the_oldest_record_has_waited_since_all_before_it_was_all_there_was() -> None:
    lag = Lag()
    lag.look(0, end=100, committed=100)
    lag.look(5, end=150, committed=100)
    lag.look(10, end=200, committed=100)
    assert (lag.records, lag.seconds(10)) == (100, 10.0)
    lag.look(15, end=200, committed=150)  # all that was there at 5 is done
    assert (lag.records, lag.seconds(15)) == (50, 10.0)
    lag.look(20, end=200, committed=199)
    assert (lag.records, lag.seconds(20)) == (1, 15.0)
    lag.look(25, end=200, committed=200)
    assert lag.seconds(30) == 0.0


def test_while_nobody_looks_the_time_goes_on() -> None:
    lag = Lag()
    lag.look(0, end=10, committed=10)
    lag.look(5, end=11, committed=10)
    assert lag.seconds(65) == 65.0


def test_what_waited_before_the_first_look_counts_from_there() -> None:
    lag = Lag()
    lag.look(100, end=1_000_000, committed=0)
    assert lag.seconds(100) == 0.0
    lag.look(105, end=1_000_000, committed=10)
    assert lag.seconds(105) == 5.0


def test_a_log_that_begins_anew_is_another_one() -> None:
    lag = Lag()
    lag.look(0, end=1_000, committed=500)
    lag.look(600, end=10, committed=0)
    assert (lag.records, lag.seconds(601)) == (10, 1.0)


def test_memory_is_bounded() -> None:
    lag = Lag()
    for second in range(2 * LOOKS_KEPT):
        lag.look(second, end=second + 1, committed=0)
    assert len(lag._ends) == LOOKS_KEPT
    assert lag.seconds(2 * LOOKS_KEPT - 1) == LOOKS_KEPT - 1


def watch_of(new_admin: Callable[[], Admin]) -> LagWatch:
    watch = LagWatch(new_admin, "group", "feed")
    watch.close()
    return watch


def test_a_broker_that_is_away_or_refuses_leaves_what_was_known() -> None:
    for error in (BrokerAwayError("away"), BrokerError("no right")):

        def refuse(error: Exception = error) -> Admin:
            raise error

        watch = watch_of(refuse)
        watch.look()
        assert watch.lags() == {}
