"""Processes whose client stands still end by themselves; those that were only suspended go on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from moved_clock import WHY_NOT, MovedClock
from patience import LIMIT_SECONDS, until
from running import Running

pytestmark = pytest.mark.slow  # each waits until a watchdog is certain
HOUR = 3_600
STUCK_SECONDS = 15  # longer than any step of a start takes on a busy machine
FRAME = b'{"uid":"u","ts":1468244384}\n'
ENDED = "error: no progress for 15 s (health.stuck_seconds): ending, so that a supervisor can start it again\n"

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="processes have no signals there")


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MovedClock:
    """The clock of the processes that a test starts."""
    if WHY_NOT:
        pytest.skip(WHY_NOT)
    clock = MovedClock(tmp_path)
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)
    return clock


def start(running: Running, script: str, *settings: str) -> subprocess.Popen[str]:
    """Start a script on an empty topic and wait until its loop runs."""
    running.settings = [f"health.stuck_seconds={STUCK_SECONDS}", *settings]
    process = running.start(script)
    until(
        lambda: "Ctrl-C stops" in running.said(script),
        lambda: f"{script} to start: {running.said(script)}",
        give_up=lambda: process.poll() is not None,
    )
    return process


def until_read(running: Running, frames: int) -> None:
    """Wait until the bucketer has read so many frames."""
    text = f" {frames} frames read"
    until(lambda: text in running.said("bucketer", "out"), lambda: f"{text}: {running.said('bucketer')}")


@pytest.mark.parametrize("script", ["bucketer", "counter"])
def test_a_process_whose_clock_is_set_back_is_ended_for_its_supervisor(
    running: Running, clock: MovedClock, script: str
) -> None:
    process = start(running, script, "client=librdkafka")

    def set_back() -> bool:
        clock.move(-HOUR)  # a wait that has begun by now ends in an hour
        return process.poll() is not None

    until(set_back, lambda: f"{script} to end: {running.said(script)}")
    assert process.returncode == 1
    assert running.said(script).endswith(ENDED)


@pytest.mark.parametrize("script", ["bucketer", "counter"])
def test_a_process_whose_clock_is_set_back_ends_by_a_signal(running: Running, clock: MovedClock, script: str) -> None:
    process = start(running, script, "client=librdkafka", "health.stuck_seconds=100000")
    for _ in range(20):
        clock.move(-HOUR)
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_SECONDS) == 1
    assert running.said(script).endswith("error: did not stop in time when asked to: killed\n")


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_a_process_whose_clock_is_set_forward_goes_on(running: Running, clock: MovedClock, client: str) -> None:
    process = start(running, "bucketer", f"client={client}", "bucketer.report_seconds=0.5")
    clock.move(HOUR)
    running.run("producer", "-", stdin=FRAME)
    until_read(running, 1)
    assert running.end(process) == 0
    assert "error" not in running.said("bucketer")


@needs_signals
def test_a_process_that_was_suspended_goes_on(running: Running) -> None:
    process = start(running, "bucketer", "bucketer.report_seconds=0.5")
    process.send_signal(signal.SIGSTOP)
    time.sleep(STUCK_SECONDS + 1)
    process.send_signal(signal.SIGCONT)
    running.run("producer", "-", stdin=FRAME)
    until_read(running, 1)
    assert running.end(process) == 0
