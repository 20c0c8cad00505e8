"""What the checks of one examination share: the configuration, a connection, and what earlier checks have found out."""

import time
from collections.abc import Callable, Mapping

from unique_users.clients.protocols import Admin, Consumer, TopicDetails
from unique_users.config.schema import Config

# What a check may need, and an earlier one provides.
ANSWER = "a broker that answers"
TRUST = "a broker that is trusted"
CONNECTION = "a connection to the cluster"
FEED = "the topic of frames"
BUCKETED = "the topic of re-keyed frames"
COUNTS = "the topic of counts"
REJECTED = "the topic of dead letters"


class Clock:
    """Both clocks, and the time that passes."""

    def wall(self) -> float:
        """Epoch seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds of a clock that nobody sets."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)


class Examination:
    """Checks come one after the other, each in a thread of its own; nothing here is used by two at a time."""

    def __init__(
        self,
        config: Config,
        new_admin: Callable[[], Admin],
        new_reader: Callable[[str], Consumer],
        clock: Clock,
    ) -> None:
        self.config = config
        self.new_admin = new_admin
        self.new_reader = new_reader
        self.clock = clock
        self.provided: set[str] = set()
        self.details: dict[str, TopicDetails] = {}  # of the topics that exist and may be described
        self.settings: dict[str, Mapping[str, str]] = {}  # of those whose settings may be read
        self.answering: list[str] = []  # the bootstrap servers that do
        self.brokers: list[str] = []  # the addresses that the cluster sends its clients to
        self._admin: Admin | None = None

    @property
    def admin(self) -> Admin:
        """The connection, for checks that need one."""
        if self._admin is None:
            self._admin = self.new_admin()
        return self._admin

    def close(self) -> None:
        """Close the connection."""
        if self._admin is not None:
            self._admin.close()
