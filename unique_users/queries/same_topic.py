"""Whether a topic is still the one that is read: a reader of a topic that is gone waits without a word."""

import time
from collections.abc import Callable

from unique_users.clients.protocols import Admin
from unique_users.clients.topics import current_state
from unique_users.runtime.timer import Timer

LOOK_SECONDS = 5.0


class SameTopic:
    """Looks at a topic every few seconds. Every method may raise BrokerAwayError, also if there is no such topic."""

    def __init__(self, admin: Admin, topic: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._admin = admin
        self.topic = topic
        self._due = Timer(LOOK_SECONDS, monotonic)
        self.state = current_state(admin, topic)

    def has_changed(self) -> bool:
        """Whether it was recreated or has other partitions, if a look is due."""
        return self._due.due() and current_state(self._admin, self.topic) != self.state
