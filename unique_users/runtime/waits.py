"""Tells whoever runs the program what it is waiting for, why, and for how long so far."""

import logging
from collections.abc import Callable

from unique_users.runtime.timer import Timer

REPEAT_SECONDS = 60.0
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


class Wait:
    """Says at once what the program waits for, then each minute, and once when the wait is over."""

    def __init__(self, log: logging.Logger, what: str, monotonic: Callable[[], float]) -> None:
        self._log = log
        self._what = what
        self._monotonic = monotonic
        self._since: float | None = None
        self._repeat_due = Timer(REPEAT_SECONDS, monotonic)

    def goes_on(self, why: Callable[[], str | None]) -> None:
        """Call it as often as you like; `why` is only called when a line is logged."""
        if self._since is None:
            self._since = self._monotonic()
            self._repeat_due = Timer(REPEAT_SECONDS, self._monotonic)
            so_far = ""
        elif self._repeat_due.due():
            so_far = f" for {duration(self._monotonic() - self._since)}"
        else:
            return
        reason = why()
        self._log.warning(f"{self._what}{so_far}{f': {reason}' if reason else ''} …")

    def end(self, said: str) -> None:
        """Say that the wait is over, if there was one."""
        if self._since is not None:
            self._log.info(said)
            self._since = None


def duration(seconds: float) -> str:
    """A duration of a minute or more, in its two largest units."""
    whole = round(seconds)
    days, hours, minutes = whole // _DAY, whole % _DAY // _HOUR, whole % _HOUR // _MINUTE
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
