"""The short form of every row of the fault matrix. FAULTS_SEED=N replays one."""

import os
from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom

import pytest
from harness import Run, execute, new_broker
from rows import ROWS

QUICK = {13, 23}  # of a few seconds: these belong to `make test`, the others to `make faults-short`


@pytest.fixture(scope="session")
def faults_broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker for the rows that do not harm it, which notices dead members soon: that of the other tests, if ours."""
    if not os.environ.get("TEST_BOOTSTRAP_SERVERS"):
        yield request.getfixturevalue("broker")
        return
    with new_broker(tmp_path_factory.mktemp("faults") / "kafka") as kafka:
        yield kafka.bootstrap_servers


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(n, id=f"row {n}, {ROWS[n].fault}", marks=[] if n in QUICK else [pytest.mark.slow])
        for n in sorted(ROWS)
    ],
)
def test_no_fault_changes_a_count(number: int, faults_broker: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("FAULTS_SEED") or SystemRandom().randrange(1_000_000))
    run = execute(number, Run(tmp_path / "run", faults_broker, seed, full=False))
    assert run.passed, f"FAULTS_SEED={seed}: {run.lost} lost, {run.extra} extra\n" + "\n".join(run.problems)
