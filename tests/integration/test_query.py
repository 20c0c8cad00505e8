"""Queries by the real script, while a counter runs and after, equal plain sets."""

import json
import subprocess
import time
from pathlib import Path

import pytest
from patience import until
from running import Running

from unique_users.demo.sample import frames as sample_frames

FRAMES = list(sample_frames(5_000, seed=7))
SEEN = [(frame["ts"], frame["uid"]) for frame in map(json.loads, FRAMES)]
FIRST = min(ts for ts, _ in SEEN) // 60 * 60
END = max(ts for ts, _ in SEEN) // 60 * 60 + 60


def users(start: int, end: int) -> int:
    return len({uid for ts, uid in SEEN if start <= ts < end})


def iso(ts: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ts))


WHOLE = ["--from", iso(FIRST), "--to", iso(END)]


def ask(running: Running, *arguments: str) -> list[int]:
    out = running.run("query", *arguments, "--format", "json").stdout
    return [json.loads(line)["unique_users"] for line in out.splitlines()]


def test_any_range_is_answered_while_the_counter_runs_and_after(running: Running) -> None:
    counter, bucketer = running.start("counter", "--set", "counter.save_seconds=0.2"), running.start("bucketer")
    running.run("producer", "-", stdin=b"\n".join(FRAMES))
    command = running.arguments("query", *WHOLE, "--format", "json")
    wanted = b'"unique_users":%d}' % users(FIRST, END)
    until(lambda: wanted in subprocess.run(command, capture_output=True, check=False).stdout, "all users to be saved")
    check(running)
    assert [running.end(counter), running.end(bucketer)] == [0, 0]
    check(running)
    assert running.counts()  # and readers have spoilt nothing


def check(running: Running) -> None:
    assert ask(running, *WHOLE) == [users(FIRST, END)]
    minutes = range(FIRST, END, 60)
    assert ask(running, *WHOLE, "--by", "minute") == [users(minute, minute + 60) for minute in minutes]
    assert ask(running, "--last", "3 minutes") == [users(END - 180, END)]
    assert ask(running, "--from", iso(FIRST + 60), "--to", iso(FIRST + 180)) == [users(FIRST + 60, FIRST + 180)]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "expected --from TIME --to TIME"),
        (["--from", "2024-01-01T00:00:00Z"], "expected --from TIME --to TIME"),
        (["--last", "1 hour", "--from", "2024-01-01T00:00:00Z"], "expected --from TIME --to TIME"),
        (["--last", "1 hour", "--to", "2024-01-01T00:00:00Z"], "expected --from TIME --to TIME"),
        (["--last", "1 hour"], "no state of topic"),
    ],
)
def test_a_wrong_question_is_one_clear_error(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    asked = Running("localhost:1", tmp_path).run("query", *arguments, code=2)
    assert complaint in asked.stderr
    assert "Traceback" not in asked.stderr
