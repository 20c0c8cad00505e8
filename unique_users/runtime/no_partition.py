"""A process that is to catch up and exit, while other members of its group hold all partitions."""

import logging
from collections.abc import Callable

from unique_users.runtime.timer import Timer

JOIN_SECONDS = 5.0  # longer than a group takes to share its partitions out when a member joins
GIVE_UP_SECONDS = 60.0


class NoPartition:
    """Says what such a process waits for, and when it has waited long enough."""

    def __init__(self, log: logging.Logger, topic: str, group: str, monotonic: Callable[[], float]) -> None:
        self._log = log
        self._what = f"other members of the group {group!r} hold every partition of {topic!r}"
        self._say_due = Timer(JOIN_SECONDS, monotonic)
        self._give_up_due = Timer(GIVE_UP_SECONDS, monotonic)
        self._said = False

    def given_up(self) -> bool:
        """Whether to exit without a partition. Call it while there is none."""
        if self._give_up_due.due():
            self._log.warning(f"{self._what}: ending without one, as they finish what they hold")
            return True
        if not self._said and self._say_due.due():
            self._said = True
            self._log.warning(
                f"{self._what}: waiting for one, {GIVE_UP_SECONDS:g} s at most; stop the others to read all of it here"
            )
        return False
