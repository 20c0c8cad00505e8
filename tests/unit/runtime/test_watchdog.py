"""What the watchdog judges, by slices of time that the test gives it; real processes are in tests/integration."""

import logging
import signal
import subprocess
import sys
import threading

import pytest
from repository import ROOT

from unique_users.runtime.heartbeat import PULSE, Pulse, alive, busy
from unique_users.runtime.signals import Stop
from unique_users.runtime.watchdog import CLOSE_SECONDS, LEAVING, SLICE_SECONDS, SUSPENDED_SECONDS, Watch, watched

TERM = bytes([signal.SIGTERM])


class Watched:
    """A watch of 60 s and the pulse that it looks at."""

    def __init__(self) -> None:
        self.pulse = Pulse()
        self._watch = Watch(60, self.pulse)

    def passes(self, seconds: float, slice_seconds: float = 0.25, *, beats: int = 0) -> bytes | None:
        """Let time go by, with so many beats in each slice; return the line to end with, if there is one."""
        for _ in range(round(seconds / slice_seconds)):
            self.pulse.beats += beats
            if line := self._watch.judge(slice_seconds):
                return line
        return None

    def hears(self, signals: bytes) -> bytes | None:
        return self._watch.judge(0.0, signals)


@pytest.fixture
def process() -> Watched:
    return Watched()


def test_a_loop_that_stands_still_for_the_time_allowed_is_ended(process: Watched) -> None:
    assert process.passes(600, beats=1) is None
    assert process.passes(59.75) is None
    line = process.passes(0.25) or b""
    assert line.startswith(b"error: no progress for 60 s (health.stuck_seconds)")
    assert line.count(b"\n") == 1


def test_one_beat_begins_the_time_anew(process: Watched) -> None:
    assert process.passes(59) is None
    assert process.passes(0.25, beats=1) is None
    assert process.passes(59) is None


def test_what_is_busy_may_take_as_long_as_it_takes(process: Watched) -> None:
    process.pulse.busy = 1
    assert process.passes(6_000) is None
    process.pulse.busy = 0
    assert process.passes(59) is None
    assert process.passes(1)


@pytest.mark.parametrize("asleep", [SUSPENDED_SECONDS, 60, 100_000])
def test_a_process_that_was_suspended_is_not_ended_when_it_wakes(process: Watched, asleep: float) -> None:
    assert process.passes(59.25) is None
    assert process.passes(asleep, asleep) is None
    assert process.passes(0.2) is None
    assert process.passes(0.25)  # the slices in which the watchdog ran are 60 s now


def test_a_stop_is_given_its_time_and_no_more(process: Watched) -> None:
    assert process.hears(TERM) is None
    assert process.passes(CLOSE_SECONDS - 0.3) is None
    assert (process.passes(0.5) or b"").startswith(b"error: did not stop in time when asked to")


def test_the_time_of_a_stop_is_not_spent_asleep(process: Watched) -> None:
    assert process.hears(TERM) is None
    assert process.passes(3_600, 3_600) is None
    assert process.passes(CLOSE_SECONDS - 1) is None


def test_a_stop_is_not_judged_by_the_beats_of_the_loop() -> None:
    watch = Watch(1, Pulse())
    assert watch.judge(0.5, TERM) is None
    assert all(watch.judge(0.5) is None for _ in range(int(CLOSE_SECONDS * 2) - 1))


def test_busy_work_does_not_lengthen_a_stop(process: Watched) -> None:
    process.pulse.busy = 1
    assert process.hears(TERM) is None
    assert process.passes(CLOSE_SECONDS + 1)


def test_a_second_signal_forces_the_end_after_a_slice_in_which_its_handler_could_have_run(process: Watched) -> None:
    assert process.hears(TERM) is None
    assert process.hears(TERM) is None  # within a second: the same request
    assert process.passes(1.25) is None
    assert process.hears(TERM) is None
    assert (process.passes(0.25) or b"").startswith(b"stopped by force")


def test_leaving_is_no_signal_but_has_its_time_too(process: Watched) -> None:
    assert process.hears(bytes([LEAVING])) is None
    assert process.passes(2) is None
    assert process.hears(bytes([LEAVING])) is None
    assert process.passes(1) is None
    assert process.passes(CLOSE_SECONDS + 1)


def test_other_signals_mean_nothing(process: Watched) -> None:
    number = getattr(signal, "SIGUSR1", 200)
    assert process.hears(bytes([number])) is None
    assert process.passes(30) is None


def test_a_wait_for_a_stop_and_busy_work_beat_in_the_main_thread_alone() -> None:
    before = PULSE.beats
    Stop().wait(0.01)
    with busy():
        assert PULSE.busy == 1
    logging.getLogger("unique_users").info("done")
    assert (PULSE.beats, PULSE.busy) == (before + 3, 0)

    def elsewhere() -> None:
        alive()
        Stop().wait(0.01)
        with busy():
            assert PULSE.busy == 0

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert PULSE.beats == before + 3


def test_a_watch_leaves_nothing_behind_and_the_former_wakeup_is_back() -> None:
    threads = threading.active_count()
    with watched(60):
        assert threading.active_count() == threads + 1
        assert signal.set_wakeup_fd(-1) != -1
    assert threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == -1


def child(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program whose main thread stands in C code, where no signal handler runs."""
    begin = (
        "import ctypes, os, signal, sys, threading, time\n"
        "from unique_users.runtime import process, signals, watchdog\n"
        "def stand_still(): ctypes.CDLL(None).pause()\n"  # goes back to Python at a signal only, and so it is blocked
    )
    return subprocess.run(
        [sys.executable, "-c", begin + program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.skipif(sys.platform == "win32", reason="pause is not there")
def test_a_process_that_stands_in_c_code_is_ended() -> None:
    done = child("with watchdog.watched(0.3): stand_still()")
    assert done.returncode == 1
    assert done.stderr == (
        "error: no progress for 0.3 s (health.stuck_seconds): ending, so that a supervisor can start it again\n"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="pause is not there")
def test_a_script_that_cannot_let_go_of_its_clients_is_ended() -> None:
    done = child(
        "watchdog.CLOSE_SECONDS = 0.3\n"
        "class Client:\n"
        "    def __del__(self): stand_still()\n"
        "def main(arguments):\n"
        "    client = Client()\n"
        "    with signals.stop_on_signals(), watchdog.watched(60): pass\n"
        "    return 0\n"
        "process.run_script(main)\n"
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: did not stop in time")


def test_a_line_that_nobody_reads_does_not_keep_the_process() -> None:
    program = (
        "import os\n"
        "from unique_users.runtime import watchdog\n"
        "os.set_blocking(2, False)\n"
        "try:\n"
        "    while True: os.write(2, b'x' * 4096)\n"
        "except BlockingIOError: os.set_blocking(2, True)\n"
        "watchdog._end(b'line')\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE) as process:
        assert process.wait(60) == 1


def test_the_slices_are_short_beside_what_they_measure() -> None:
    assert SLICE_SECONDS * 5 < SUSPENDED_SECONDS < CLOSE_SECONDS < 10
