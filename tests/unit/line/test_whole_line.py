import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from whole_line import WholeLine

# The same examples every time, so that a gate does not depend on luck; other ones where a number is asked for.
GIVEN = os.environ.get("WHOLE_LINE_EXAMPLES")
EXAMPLES = [int(GIVEN)] if GIVEN else [50, pytest.param(500, marks=pytest.mark.slow)]


@pytest.mark.timeout(max(300, int(GIVEN or 0)))
@pytest.mark.parametrize("examples", EXAMPLES)
def test_every_frame_is_counted_or_rejected_or_its_bucket_is_marked_whatever_happens(examples: int) -> None:
    rules = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=GIVEN is None,
    )
    run_state_machine_as_test(WholeLine, settings=rules)
