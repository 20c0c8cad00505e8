from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from whole_line import WholeLine


def test_every_frame_is_counted_or_rejected_whatever_happens() -> None:
    rules = settings(
        max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(WholeLine, settings=rules)
