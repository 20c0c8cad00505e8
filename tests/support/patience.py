"""Waiting for what a process is going to do: as long as it may take on the slowest machine."""

import time
from collections.abc import Callable

LIMIT_SECONDS = 600.0  # a test that waits in vain should end; none depends on how long it takes
POLL_SECONDS = 0.2


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    give_up_at = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, f"waited in vain for {what}"
        time.sleep(POLL_SECONDS)
