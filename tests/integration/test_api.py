"""The public reader of the counts, as its document shows it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import ROOT
from system import System
from verdict import published_buckets

from unique_users.aggregation.counts import users_in
from unique_users.api import BrokerAwayError, CountsUpdate, follow_counts, read_counts
from unique_users.demo.sample import frames as sample_frames

EXAMPLE = re.findall(r"```python\n(.*?)```", (ROOT / "docs/api.md").read_text(encoding="utf-8"), re.DOTALL)[0]


@pytest.fixture
def system(broker: str, tmp_path: Path) -> Iterator[System]:
    with System(tmp_path / "system", broker) as system:
        yield system


def counted(system: System, frames: list[bytes]) -> None:
    assert system.start_producer(frames).wait(60) == 0
    for script in ("bucketer", "counter"):
        assert system.start(script, "--until-caught-up").wait(60) == 0


def test_the_example_prints_the_counts_of_the_topic(system: System, broker: str) -> None:
    counted(system, list(sample_frames(500, seed=3)))
    example = EXAMPLE.replace("localhost:9092", broker)
    line = [sys.executable, "-uc", example]
    running = subprocess.Popen(line, cwd=system.directory, stdout=subprocess.PIPE, text=True)
    truth = published_buckets(system.records(system.config.topics.counts.name))
    try:
        assert running.stdout is not None
        lines = [next(running.stdout).split() for _ in range(2 * len(truth))]
    finally:
        running.kill()
        running.communicate(timeout=60)
    numbers = sorted(users_in(found.total) for found in truth.values())
    assert sorted(int(line[-2]) for line in lines if line[0] != "now") == numbers
    assert sorted(int(line[-1]) for line in lines if line[0] == "now") == numbers
    assert truth


def test_following_tells_everything_once_and_then_what_changes(system: System) -> None:
    counted(system, list(sample_frames(500, seed=3)))
    path = system.directory / "config.yaml"
    first = read_counts(path)
    assert first
    ended: list[CountsUpdate] = []
    updates = follow_counts(path, stop=lambda: bool(ended))
    assert next(updates).counts == first
    counted(system, [b'{"uid":"somebody new","ts":%d}' % int(first[0].start.timestamp())])
    update = next(update for update in updates if update.counts)
    before = {(count.interval, count.start): count.unique_users for count in first}
    assert {count.unique_users - before[count.interval, count.start] for count in update.counts} == {1}
    ended.append(update)
    assert next(updates, None) is None


def test_without_a_topic_or_a_broker_it_says_so(system: System) -> None:
    with pytest.raises(BrokerAwayError, match="does not exist"):
        read_counts(system.directory / "config.yaml")
    with pytest.raises(BrokerAwayError):
        read_counts("", ["kafka.bootstrap_servers=localhost:1"])
