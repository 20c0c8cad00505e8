"""The state machine of whole_line.py finds mistakes: each planted one within so many examples."""

from contextlib import nullcontext

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from planted import FAULTS, OF_BUSY, OF_LOSSES, RARE
from whole_line import PARTITIONS, WholeLine

RULES = settings(
    max_examples=900,  # at least twice of what any takes
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str) -> None:
    class Planted(WholeLine):
        examples = 0
        with_losses = name in OF_LOSSES
        with_idles = name not in OF_BUSY

        def __init__(self) -> None:
            super().__init__()
            Planted.examples += 1

    with FAULTS[name](), pytest.raises(AssertionError):
        run_state_machine_as_test(Planted, settings=RULES)
    print(f"| {name} | {Planted.examples} |")


@pytest.mark.parametrize(
    "name", ["", "the gaps of feed are forgotten at a restart", "the gaps of feed do not reach the counter"]
)
def test_a_bucketer_that_is_restarted_still_tells_what_it_missed(name: str) -> None:
    machine = WholeLine()
    with RARE[name]() if name else nullcontext():
        machine.begin(by_uid=False, topic_ids=True, elsewhere=PARTITIONS, lossy=True, idles=True, records_per_poll=5)
        machine.put(partition=0, minute=3, frames=2)
        machine.step_bucketer(times=3)
        machine.put(partition=1, minute=3, frames=3)
        machine.put(partition=0, minute=3, frames=3)
        machine.lose_frames(partition=0, quarters=3, crash=True, again=True)
        with pytest.raises(AssertionError) if name else nullcontext():
            machine.teardown()


@pytest.mark.parametrize("name", ["", "a crash loses tombstones"])
def test_a_count_that_is_withdrawn_is_deleted_although_that_is_refused_at_first(name: str) -> None:
    machine = WholeLine()
    with RARE[name]() if name else nullcontext():
        machine.begin(by_uid=True, topic_ids=True, elsewhere=PARTITIONS, lossy=False, idles=True, records_per_poll=5)
        machine.change_intervals()
        machine.put(partition=0, minute=3, frames=4)
        machine.step_bucketer(times=4)
        machine.step_counter(times=4, seconds=1)
        machine.change_intervals()
        machine.crash_counter_that_is_refused()
        with pytest.raises(AssertionError) if name else nullcontext():
            machine.teardown()
