"""What the pipeline is doing, in words, from one look at it after the other. Pure.

A process is silent when it has work and its group commits nothing: what is idle cannot be told from what is dead.
"""

from collections import deque
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from unique_users.pipeline.progress import Progress

LOOK_SECONDS = 3.0  # between two looks
RATE_SECONDS = 15.0  # what frames per second are measured over
BROKER_SECONDS = 15.0  # without an answer: the broker is silent. One answer may take ten
BUCKETER_SECONDS = 10.0  # without a commit though frames wait, or three times what is configured between two
COUNTER_SECONDS = 15.0  # as above, of the counters
IDLE_SECONDS = 15.0  # without a new frame
BEHIND_FRAMES, BEHIND_SECONDS = 1_000, 10.0  # what waits is a backlog above so many, and above so many seconds' frames


class Kind(StrEnum):
    """What the state line says."""

    STARTING = "starting"
    LIVE = "live"
    CATCHING_UP = "catching up"
    IDLE = "no new frames"
    BUCKETER_SILENT = "bucketer silent"
    COUNTER_SILENT = "counter silent"
    BROKER_SILENT = "broker silent"
    NO_TOPIC = "no topic"


class State(NamedTuple):
    """The state line, and the figures beside it; what is not known is None. Times are epoch seconds."""

    kind: Kind = Kind.STARTING
    since: int | None = None
    frames_per_second: float | None = None
    unread: int | None = None  # frames that no bucketer has handled
    uncounted: int | None = None  # records that no counter has counted
    behind_seconds: float | None = None
    read: int | None = None
    rejected: dict[str, int] | None = None
    clock: int | None = None  # event time that the slowest partition of feed has reached
    newest_frame: int | None = None  # when the last frame that was handled came in
    missing: tuple[str, ...] = ()  # topics that do not exist


class _Moves:
    """When something last moved, or had nothing to do."""

    def __init__(self) -> None:
        self._value: object = None
        self.at = 0

    def see(self, value: object, waiting: int, now: int) -> None:
        if value != self._value or not waiting:
            self.at = now
        self._value = value


class Health:
    """Takes looks, and tells the state."""

    def __init__(self, commit_seconds: float, save_seconds: float) -> None:
        self._bucketer_seconds = max(BUCKETER_SECONDS, 3 * commit_seconds)
        self._counter_seconds = max(COUNTER_SECONDS, 3 * save_seconds)
        self._bucketer, self._counter = _Moves(), _Moves()
        self._ends: deque[tuple[float, int]] = deque()
        self._answered: int | None = None
        self._frame_at = 0
        self._begun: int | None = None
        self._state = State()

    def look(self, progress: Progress, now: float) -> None:
        """Take in a look that was answered at this time."""
        second = int(now)
        self._answered = second
        self._see_end(sum(progress.feed_ends.values()), now)
        offsets = {partition: each.offset for partition, each in progress.committed.items()}
        self._bucketer.see(offsets, progress.unread, second)
        self._counter.see(dict(progress.counted), progress.uncounted, second)
        totals = progress.totals()
        newest = [ms for each in progress.committed.values() if (ms := each.metadata.newest_ms) is not None]
        self._state = State(
            frames_per_second=self._rate(),
            unread=progress.unread,
            uncounted=progress.uncounted,
            behind_seconds=progress.behind_seconds,
            read=totals.read if totals else None,
            rejected=dict(totals.rejected) if totals else None,
            clock=progress.clock,
            newest_frame=max(newest) // 1000 if newest else None,
        )
        self._begun = self._begun or second

    def miss(self, topics: Sequence[str], now: float) -> None:
        """Take in that the broker answers, and has not all topics."""
        self._answered = int(now)
        self._state = State(missing=tuple(topics))

    def state(self, now: float) -> State:
        """The state at this time."""
        kind, since = self._kind(now)
        return self._state._replace(kind=kind, since=since)

    def _kind(self, now: float) -> tuple[Kind, int | None]:
        """The first that is true, worst first: what comes later says nothing while that lasts."""
        return self._silent(now) or self._moving(now)

    def _silent(self, now: float) -> tuple[Kind, int | None] | None:
        if self._answered is None:
            self._begun = self._begun or int(now)
            silent = now - self._begun > BROKER_SECONDS
            return (Kind.BROKER_SILENT, self._begun) if silent else (Kind.STARTING, None)
        if now - self._answered > BROKER_SECONDS:
            return Kind.BROKER_SILENT, self._answered
        if self._state.missing:
            return Kind.NO_TOPIC, None
        if now - self._bucketer.at > self._bucketer_seconds:
            return Kind.BUCKETER_SILENT, self._bucketer.at
        if now - self._counter.at > self._counter_seconds:
            return Kind.COUNTER_SILENT, self._counter.at
        return None

    def _moving(self, now: float) -> tuple[Kind, int | None]:
        state = self._state
        waiting = (state.unread or 0) + (state.uncounted or 0)
        if waiting > max(BEHIND_FRAMES, BEHIND_SECONDS * (state.frames_per_second or 0)):
            return Kind.CATCHING_UP, None
        last = max(self._frame_at, state.newest_frame or 0)
        if now - last > IDLE_SECONDS:
            return Kind.IDLE, last or None
        return Kind.LIVE, None

    def _see_end(self, end: int, now: float) -> None:
        if self._ends and end < self._ends[-1][1]:
            self._ends.clear()  # the topic was deleted and recreated
        if self._ends and end > self._ends[-1][1]:
            self._frame_at = int(now)
        self._ends.append((now, end))
        while len(self._ends) > 2 and now - self._ends[1][0] >= RATE_SECONDS:  # noqa: PLR2004 - a rate needs two
            self._ends.popleft()

    def _rate(self) -> float | None:
        (first, before), (last, end) = self._ends[0], self._ends[-1]
        return (end - before) / (last - first) if last > first else None
