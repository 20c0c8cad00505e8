"""How a watchdog, in its own thread, knows that the loop in the main thread moves."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Pulse:
    """How a watchdog, in its own thread, knows that the loop in the main thread moves."""

    def __init__(self) -> None:
        self.beats = 0
        self.busy = 0


PULSE = Pulse()
_MAIN_THREAD = threading.main_thread().ident


def alive() -> None:
    """Say that the loop moves: in every step, and between requests that may each be waited for."""
    if threading.get_ident() == _MAIN_THREAD:
        PULSE.beats += 1


@contextmanager
def busy() -> Iterator[None]:
    """Have the loop stand still as long as it takes: for state that is large, and for output that is not read."""
    if threading.get_ident() != _MAIN_THREAD:
        yield
        return
    PULSE.busy += 1
    try:
        yield
    finally:
        PULSE.beats += 1
        PULSE.busy -= 1
