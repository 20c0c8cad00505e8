"""The commands on saved states, beside a counter that runs and after it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from patience import until
from repository import ROOT
from running import Running

from unique_users.demo.sample import frames as sample_frames

FRAMES = list(sample_frames(4_000, seed=11))
USERS = len({(frame["ts"] // 60, frame["uid"]) for frame in map(json.loads, FRAMES)})
FAST = ("--set", "counter.save_seconds=0.2")


def command(running: Running, *arguments: str) -> list[str]:
    """`unique-users state` with the settings of the scripts."""
    return running.arguments("state", *arguments)


def run(running: Running, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(running, *arguments), capture_output=True, text=True, check=False, timeout=120, cwd=ROOT
    )
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def until_saved(running: Running) -> None:
    """Wait until the running counter has saved all users."""
    line = command(running, "show", "--format", "json")

    def are_saved() -> bool:
        done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT)
        return done.returncode == 0 and bool(json.loads(done.stdout)["intervals"][0]["users"] == USERS)

    until(are_saved, "all users to be saved")


def test_all_commands_beside_a_running_counter_and_after_it(running: Running, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    counter, bucketer = running.start("counter", *FAST), running.start("bucketer")
    running.run("producer", "-", stdin=b"\n".join(FRAMES[:2_000]))
    until(lambda: list((tmp_path / "state").glob("*.sqlite")) and shown_offset(running), "a first save")
    run(running, "check")
    made = run(running, "backup", str(copies))
    assert f"{copies / (running.topic('bucketed') + '-0.sqlite')}: " in made.stdout
    assert "whole" in run(running, "check", str(copies)).stdout
    again = run(running, "backup", str(copies), code=2)
    assert "already exists: name a new directory" in again.stderr

    running.run("producer", "-", stdin=b"\n".join(FRAMES[2_000:]))
    until_saved(running)
    text = run(running, "show").stdout
    assert f"  minute  {len({json.loads(frame)['ts'] // 60 for frame in FRAMES})} buckets  {USERS:,} users\n" in text
    refused = run(running, "restore", str(copies), code=1)
    assert "in use by another process" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert [running.end(counter), running.end(bucketer)] == [0, 0]

    newer = shown_offset(running)
    restored = run(running, "restore", str(copies))
    assert ".old1.sqlite" in restored.stdout
    assert shown_offset(running) <= newer
    assert running.counts() == running.recount(b"\n".join(FRAMES))
    assert run(running, "check").stdout.endswith(": whole\n")


def shown_offset(running: Running) -> int:
    done = subprocess.run(
        command(running, "show", "--format", "json"), capture_output=True, text=True, check=False, cwd=ROOT
    )
    return (json.loads(done.stdout)["next_offset"] or 0) if done.returncode == 0 else 0


@pytest.fixture
def counted(running: Running) -> Running:
    """A counter that has ended, with its state."""
    running.run("producer", "-", stdin=b"\n".join(FRAMES[:500]))
    running.counts()
    return running


def test_wrong_input_is_one_line_and_changes_nothing(counted: Running, tmp_path: Path) -> None:
    copies, state = tmp_path / "copies", tmp_path / "state"
    run(counted, "backup", str(copies))
    (copy,) = copies.iterdir()
    before = {path.name: path.read_bytes() for path in state.iterdir()}

    assert "no state of topic" in run(counted, "restore", str(tmp_path / "missing"), code=2).stderr
    assert "no state of topic" in run(counted, "check", str(tmp_path / "missing"), code=2).stderr
    assert "name the DIRECTORY" in run(counted, "restore", code=2).stderr
    assert "the state directory itself" in run(counted, "restore", str(state), code=2).stderr
    counted.settings = ["topics.bucketed.name=another"]
    assert "no state of topic 'another'" in run(counted, "restore", str(copies), code=2).stderr
    shutil.copy(copy, copies / "another-0.sqlite")
    assert "this is the state of " in run(counted, "restore", str(copies), code=1).stderr
    counted.settings = []

    whole = copy.read_bytes()
    copy.write_bytes(whole[: len(whole) // 2])
    for arguments in (["check", str(copies)], ["restore", str(copies)]):
        failed = run(counted, *arguments, code=1)
        assert f"error: {copy}: damaged" in failed.stderr
        assert len(failed.stderr.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in state.iterdir()} == before


SLOW = """
import sys
from unique_users.state import snapshot as saved
from unique_users.commands import state
def stop_in_the_middle(self, path):
    path.write_bytes(b"half of a copy")
    print("in the middle", flush=True)
    sys.stdin.read()
saved.SavedState.copy_to = stop_in_the_middle
state.main(sys.argv[1:])
"""


@pytest.mark.parametrize("action", ["backup", "restore"])
def test_a_kill_half_way_leaves_nothing_that_looks_whole(counted: Running, tmp_path: Path, action: str) -> None:
    copies, state = tmp_path / "copies", tmp_path / "state"
    if action == "restore":
        run(counted, "backup", str(copies))
    before = {path.name: path.read_bytes() for path in state.glob("*.sqlite")}
    _, _, _, _, *arguments = command(counted, action, str(copies))
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"in the middle\n"
    process.kill()
    process.communicate()
    assert {path.name: path.read_bytes() for path in state.glob("*.sqlite")} == before
    if action == "backup":
        assert "no state" in run(counted, "check", str(copies), code=2).stderr
    run(counted, action, str(copies))
    assert "whole" in run(counted, "check", str(copies)).stdout
    assert counted.counts() == counted.recount(b"\n".join(FRAMES[:500]))
