"""Waiting for what a process is going to do: as long as it may take on the slowest machine."""

import time
from collections.abc import Callable
from typing import Literal, TypeVar

import pytest

LIMIT_SECONDS = 600.0  # a test that waits in vain should end; none depends on how long it takes
POLL_SECONDS = 0.1

Found = TypeVar("Found")


def until(
    condition: Callable[[], Found | Literal[False] | None],
    what: str | Callable[[], object],
    *,
    give_up: Callable[[], bool] = lambda: False,
    every: float = POLL_SECONDS,
) -> Found:
    """Wait for a condition and return what it gave; it fails when `what` can no longer come. A condition may poll."""
    end = time.monotonic() + LIMIT_SECONDS
    try:
        while True:
            over = time.monotonic() > end or give_up()  # asked first: what ends may have met the condition just before
            if found := condition():
                return found
            assert not over, f"waited in vain for {what() if callable(what) else what}"
            time.sleep(every)
    except pytest.fail.Exception as error:  # the time limit of the test itself
        error.add_note(f"waiting for {what() if callable(what) else what}")
        raise
