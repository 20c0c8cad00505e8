"""A process is healthy as long as its loop moves, whoever waits for what."""

from unique_users.metrics.health import Health
from unique_users.runtime.heartbeat import Pulse


def health_of(pulse: Pulse) -> Health:
    return Health(pulse, lambda: "")


def test_a_loop_that_moves_is_healthy() -> None:
    pulse = Pulse()
    health = health_of(pulse)
    for _ in range(100):
        pulse.beats += 1
        health.sample(1.0)
    assert health.unhealthy() == ""


def test_a_loop_that_stands_still_for_thirty_seconds_is_not() -> None:
    pulse = Pulse()
    health = health_of(pulse)
    for _ in range(29):
        health.sample(1.0)
    assert health.unhealthy() == ""
    health.sample(1.0)
    assert health.unhealthy() == "the loop has not moved for 30 s"
    pulse.beats += 1
    health.sample(1.0)
    assert health.unhealthy() == ""


def test_a_loop_that_says_it_is_busy_is_healthy() -> None:
    pulse = Pulse()
    pulse.busy = 1
    health = health_of(pulse)
    for _ in range(100):
        health.sample(1.0)
    assert health.unhealthy() == ""


def test_a_process_that_was_stopped_for_an_hour_is_not_blamed_for_it() -> None:
    health = health_of(Pulse())
    health.sample(3_600.0)
    assert health.unhealthy() == ""
