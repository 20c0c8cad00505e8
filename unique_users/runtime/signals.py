"""Signals ask a process to stop."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from unique_users.runtime.heartbeat import alive

SLICE_SECONDS = 0.05  # a sleep resumes after a signal's handler; this is how soon the request is seen
TOGETHER_SECONDS = 1.0  # signals this close together are one request
FORCED = b"stopped by force: what was not saved is read again at the next start\n"

# Windows can send SIGBREAK to one process among others; it has no SIGTERM of its own.
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)


class Stop:
    """A request to stop, set once by a signal or a caller, and checked by the loops.

    A plain flag: a lock, as in threading.Event, might be held by the very code that a signal handler interrupts.
    The loops measure time by its clock, `monotonic`.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._requested = False
        self.monotonic = monotonic

    @property
    def requested(self) -> bool:
        """Whether the process was asked to stop."""
        return self._requested

    def request(self) -> None:
        """Ask the loops to end at their next step."""
        self._requested = True

    def wait(self, seconds: float) -> bool:
        """Sleep for `seconds` or until a stop is requested. Returns whether it was."""
        deadline = time.monotonic() + seconds
        while not self._requested and (remaining := deadline - time.monotonic()) > 0:
            alive()
            time.sleep(min(remaining, SLICE_SECONDS))
        return self._requested


def heeded_signals() -> list[int]:
    """The stop signals that this process was not told to ignore at its start, as nohup does."""
    return [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def stop_on_signals(monotonic: Callable[[], float] = time.monotonic) -> Iterator[Stop]:
    """Give a Stop that SIGINT and SIGTERM set; a later signal ends the process at once, exit code 1.

    Signals within a second are one request: a closed terminal and `timeout` send two. Signals ignored when the
    process was started stay ignored. The former handlers are restored afterwards.
    """
    stop = Stop()
    first: float | None = None

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal first
        if first is None:
            first = monotonic()
        elif monotonic() - first > TOGETHER_SECONDS:
            os.write(2, FORCED)
            os._exit(1)
        stop.request()

    former = {number: signal.signal(number, handle) for number in heeded_signals()}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
