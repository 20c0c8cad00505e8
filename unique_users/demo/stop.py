"""How the demo is stopped early: by an error, or by a signal."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

from unique_users.errors import UniqueUsersError
from unique_users.runtime.signals import heeded_signals


class DemoError(UniqueUsersError):
    """The demo did not finish: the message says where, the lines above it why."""


class StoppedError(DemoError):
    """A stop was requested before the end."""


class EarlyEnd:
    """Ctrl-C in the demo: it ends at the next `check`, so that everything started is known and can be stopped."""

    def __init__(self) -> None:
        self._requested = False
        self._prompt = False

    @property
    def requested(self) -> bool:
        """Whether a stop was requested."""
        return self._requested

    def check(self) -> None:
        """Raise StoppedError if a stop was requested."""
        if self._requested:
            raise StoppedError("stopped before the end")

    @contextmanager
    def promptly(self) -> Iterator[None]:
        """Let a request end the work inside at once, for work that cleans up after itself."""
        self.check()
        self._prompt = True
        try:
            yield
        finally:
            self._prompt = False

    def request(self, _number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        if not self._requested:
            with suppress(OSError):
                os.write(2, b"stopping what was started ...\n")
        self._requested = True
        if self._prompt:
            self._prompt = False
            self.check()


@contextmanager
def stop_on_signals() -> Iterator[EarlyEnd]:
    """Give an EarlyEnd that the first signal requests. No later one forces an end: it would leave a Kafka behind."""
    stop = EarlyEnd()
    former = {number: signal.signal(number, stop.request) for number in heeded_signals()}
    try:
        yield stop
    finally:
        # A signal may come between the start of a process and the note of it.
        for left_over in psutil.Process().children():
            left_over.kill()
        for number, handler in former.items():
            signal.signal(number, handler)
