"""Ends a process whose loop stands still, or does not end after a signal, whatever a client does, even in C.

Such a client does not return to Python, so no signal handler runs and no exception ends it. The supervisor restarts the
process, which continues from what is saved.
"""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import NoReturn

from unique_users.runtime.heartbeat import PULSE, Pulse
from unique_users.runtime.process import runs_script
from unique_users.runtime.signals import FORCED, STOP_SIGNALS, TOGETHER_SECONDS

SLICE_SECONDS = 0.25  # each one wakes a thread, which takes the interpreter from the loop
SUSPENDED_SECONDS = 2.0  # a slice this long was not ours: the process was stopped, or the machine slept
CLOSE_SECONDS = 9.8  # the time a stop is given; it promises 10 s
WRITE_SECONDS = 0.2  # stderr may be a pipe that nobody reads
LEAVING = 0  # instead of a signal's number


class Watch:
    """Decides by slices of time whether the process must end. Its clock is the slices in which the watchdog ran."""

    def __init__(self, stuck_seconds: float, pulse: Pulse) -> None:
        self._stuck_seconds = stuck_seconds
        self._pulse = pulse
        self._beats = pulse.beats
        self._still = 0.0
        self._closing: float | None = None  # seconds since a stop was requested
        self._forced = False

    def judge(self, seconds: float, signals: bytes = b"") -> bytes | None:
        """Take the time since the last call and the signals in it. Returns the line to end with when it is time."""
        passed = seconds if seconds < SUSPENDED_SECONDS else SLICE_SECONDS
        if self._forced:
            return FORCED  # this signal's handler did not run
        if self._closing is None:
            self._still = self._still + passed if self._stands_still() else 0.0
            if self._still >= self._stuck_seconds:
                return (
                    f"error: no progress for {self._stuck_seconds:g} s (health.stuck_seconds):"
                    " ending, so that a supervisor can start it again\n"
                ).encode()
        else:
            self._closing += passed
            if self._closing >= CLOSE_SECONDS:
                return b"error: did not stop in time when asked to: killed\n"
        self._hear(signals)
        return None

    def _stands_still(self) -> bool:
        before, self._beats = self._beats, self._pulse.beats
        return self._beats == before and not self._pulse.busy

    def _hear(self, signals: bytes) -> None:
        if not any(number in STOP_SIGNALS or number == LEAVING for number in signals):
            return
        if self._closing is None:
            self._closing = 0.0
        elif self._closing > TOGETHER_SECONDS and any(number in STOP_SIGNALS for number in signals):
            self._forced = True


@contextmanager
def watched(stuck_seconds: float) -> Iterator[None]:
    """Have a thread end the process, exit code 1, if its loop gives no sign for `stuck_seconds`, or never ends.

    Use it inside stop_on_signals, in the main thread. A script is watched until it has closed its clients.
    """
    told, hears = socket.socketpair()
    told.settimeout(0)
    former = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    thread = Thread(target=_run, args=(Watch(stuck_seconds, PULSE), hears), name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        if runs_script():
            told.send(bytes([LEAVING]))
            told.detach()  # open until the process ends
        else:
            told.close()
            thread.join()


def _run(watch: Watch, signals: socket.socket) -> None:
    with signals:
        signals.settimeout(SLICE_SECONDS)
        before = time.monotonic()
        while True:
            try:
                numbers = signals.recv(64)
            except TimeoutError:
                numbers = b""
            else:
                if not numbers:
                    return  # closed: there is nothing left to watch
            now = time.monotonic()
            if line := watch.judge(now - before, numbers):
                _end(line)
            before = now


def _end(line: bytes) -> NoReturn:
    with suppress(RuntimeError):  # no thread can be started while the interpreter shuts down
        writer = Thread(target=os.write, args=(2, line), daemon=True)
        writer.start()
        writer.join(WRITE_SECONDS)
    os._exit(1)
