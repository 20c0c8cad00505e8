"""How a watchdog, in its own thread, knows that the loop in the main thread makes progress."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Pulse:
    """How a watchdog, in its own thread, knows that the loop in the main thread makes progress."""

    def __init__(self) -> None:
        self.beats = 0
        self.busy = 0


PULSE = Pulse()
_MAIN_THREAD = threading.main_thread().ident


def alive() -> None:
    """Say that the loop makes progress: in every step, and between requests that may each take a while."""
    if threading.get_ident() == _MAIN_THREAD:
        PULSE.beats += 1


@contextmanager
def busy() -> Iterator[None]:
    """Let the loop stand still as long as necessary: for a large state, or output that nobody reads."""
    if threading.get_ident() != _MAIN_THREAD:
        yield
        return
    PULSE.busy += 1
    try:
        yield
    finally:
        PULSE.beats += 1
        PULSE.busy -= 1
