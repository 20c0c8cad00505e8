"""Watches in the background how much of a topic a group has left to read, and for how long that has waited."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping

from unique_users.clients.protocols import Admin, Position
from unique_users.errors import BrokerAwayError, BrokerError
from unique_users.messages.offset_metadata import OffsetMetadata
from unique_users.runtime.repeating import Repeating

_log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
CLOSE_SECONDS = 0.2
LOOKS_KEPT = 720  # an hour; what has waited longer is said to have waited since then


class Lag:
    """The lag of one partition, by what was its end when. Pure."""

    def __init__(self) -> None:
        self._ends: deque[tuple[float, int]] = deque(maxlen=LOOKS_KEPT)
        self.records = 0

    def look(self, now: float, end: int, committed: int) -> None:
        """Note the end of the partition and the group's position at a monotonic time."""
        if self._ends and end < self._ends[-1][1]:
            self._ends.clear()  # another log
        self._ends.append((now, end))
        while len(self._ends) > 1 and self._ends[1][1] <= committed:
            self._ends.popleft()
        self.records = max(0, end - committed)

    def seconds(self, now: float) -> float:
        """How long the oldest record has waited: since the last look at which all before the position was all there is.

        If that was before the first look that is kept: at least since then.
        """
        if not self.records or not self._ends:
            return 0.0
        return max(0.0, now - self._ends[0][0])


class LagWatch:
    """Looks every five seconds, in its own thread."""

    def __init__(self, new_admin: Callable[[], Admin], group: str, topic: str) -> None:
        self._new_admin = new_admin
        self._admin: Admin | None = None
        self._group = group
        self._topic = topic
        self._lags: dict[int, Lag] = {}
        self._refusal = ""
        self.answered_at: float | None = None  # monotonic; a refusal is an answer, too
        self._looking = Repeating(f"watch the lag of {group}", LOOK_SECONDS, self.look)

    def lags(self) -> Mapping[int, tuple[int, float]]:
        """Records and seconds by partition, as known now. While the broker is silent, the seconds go on."""
        now = time.monotonic()
        return {partition: (lag.records, lag.seconds(now)) for partition, lag in list(self._lags.items())}

    def look(self) -> None:
        """Look now. A broker that is away or refuses leaves what was known."""
        try:
            self._admin = self._admin or self._new_admin()
            committed = self._admin.committed(self._group, self._topic)
            ends = self._admin.high_watermark_offsets(self._topic)
            starts = self._admin.starts(self._topic)
        except BrokerError as error:
            if not isinstance(error, BrokerAwayError):
                self.answered_at = time.monotonic()
            if str(error) != self._refusal:
                self._refusal = str(error)
                _log.debug("no lag of %s: %s", self._group, error)
            return
        self.answered_at = time.monotonic()
        for partition, end in ends.items():
            position = _reached(committed.get(partition))
            lag = self._lags.setdefault(partition, Lag())
            lag.look(time.monotonic(), end, max(position, starts.get(partition, 0)))

    def close(self) -> None:
        """Stop looking."""
        if self._looking.close(CLOSE_SECONDS) and self._admin is not None:
            self._admin.close()


def _reached(committed: Position | None) -> int:
    """The position up to which nothing is left to read: a transaction leaves a marker, which no poll returns."""
    return OffsetMetadata.parsed(committed.metadata).reached_from(committed.offset) if committed else 0
