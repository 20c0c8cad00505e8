"""The short form of every row of the fault matrix. FAULTS_SEED=N replays one."""

import os
from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom
from typing import Any

import pytest
from harness import Run, execute, new_broker
from moved_clock import WHY_NOT
from rows import ROWS
from system import CLIENT

CLIENTS = ["kafka-python", "librdkafka"]
FIRST_WITH_BOTH = 18
CLOCK = 25
QUICK = {13, 23}  # of a few seconds: these belong to `make test`, the others to `make faults-short`


@pytest.fixture(scope="session")
def faults_broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker for the rows that do not harm it, which notices dead members soon: that of the other tests, if ours."""
    if not os.environ.get("TEST_BOOTSTRAP_SERVERS"):
        yield request.getfixturevalue("broker")
        return
    with new_broker(tmp_path_factory.mktemp("faults") / "kafka") as kafka:
        yield kafka.bootstrap_servers


def cases() -> Iterator[Any]:
    """Every row with the client of the environment, the later ones with each client."""
    for number in sorted(ROWS):
        marks = [] if number in QUICK else [pytest.mark.slow]
        if number == CLOCK:
            marks.append(pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT))
        for client in CLIENTS if number >= FIRST_WITH_BOTH and "CLIENT" not in os.environ else [CLIENT]:
            yield pytest.param(number, client, id=f"row {number}, {client}, {ROWS[number].fault}", marks=marks)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("number", "client"), list(cases()))
def test_no_fault_changes_a_count(number: int, client: str, faults_broker: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("FAULTS_SEED") or SystemRandom().randrange(1_000_000))
    run = execute(number, Run(tmp_path / "run", faults_broker, seed, full=False, client=client))
    told = f"FAULTS_SEED={seed} CLIENT={client}: {run.lost} lost, {run.extra} extra"
    assert run.passed, "\n".join([told, *run.problems])
