"""Calls a function again and again in the background, so that no loop has to wait for it."""

from collections.abc import Callable
from threading import Event, Thread


class Repeating:
    """Calls `look` every so many seconds in its own thread, until it is closed."""

    def __init__(self, name: str, every_seconds: float, look: Callable[[], None], *, first_in: float = 0.0) -> None:
        self._every_seconds = every_seconds
        self._look = look
        self._closed = Event()  # not a Stop: that wakes up twenty times a second for signals, which threads do not get
        self._thread = Thread(target=self._run, args=(first_in,), name=name, daemon=True)
        self._thread.start()

    def close(self, wait_seconds: float) -> bool:
        """Stop calling. Returns False if a call takes longer than `wait_seconds`: it then ends with the process."""
        self._closed.set()
        self._thread.join(wait_seconds)
        return not self._thread.is_alive()

    def _run(self, first_in: float) -> None:
        wait_seconds = first_in
        while not self._closed.wait(wait_seconds):
            self._look()
            wait_seconds = self._every_seconds
