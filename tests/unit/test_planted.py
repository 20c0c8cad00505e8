"""The state machine of whole_line.py finds mistakes: each planted one, within so many examples."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from planted import FAULTS, OF_BUSY, OF_LOSSES
from whole_line import WholeLine

EXAMPLES_MAX = 600
RULES = settings(
    max_examples=EXAMPLES_MAX,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str) -> None:
    class Planted(WholeLine):
        examples = 0
        with_losses = name in OF_LOSSES
        with_idles = name not in OF_BUSY

        def __init__(self) -> None:
            super().__init__()
            Planted.examples += 1

    with FAULTS[name](), pytest.raises(Exception):  # noqa: B017, PT011 - whatever goes wrong
        run_state_machine_as_test(Planted, settings=RULES)
    print(f"{name} | {Planted.examples}")
