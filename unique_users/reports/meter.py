"""How much was read: in all, since the last report, and how fast. Pure: the clock is an argument."""

from collections.abc import Callable
from typing import NamedTuple


class Reading(NamedTuple):
    """What a process has read."""

    total: int  # since it started
    new: int  # since the last report
    per_second: int  # since the last report


class Meter:
    """Remembers what the last report said."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._at = monotonic()
        self.reported = 0  # the total of the last report

    def read(self, total: int) -> Reading:
        """Return what this report says of `total`."""
        now, new = self._monotonic(), total - self.reported
        seconds = now - self._at
        self.reported, self._at = total, now
        return Reading(total, new, round(new / seconds) if seconds > 0 else 0)
