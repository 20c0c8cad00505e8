"""What a reader knows of one partition's past: what is saved, and what only this process knows."""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from unique_users.clients.protocols import Batch
from unique_users.messages.checkpoints import CHECKPOINTS_MAX, NEWEST, RECENT, Checkpoint, record_hash, thinned

# A log that was cut back brings nothing for at least this long: its broker restarts, or another one takes over.
PAUSE_SECONDS = 0.2
PAUSES_MAX = 64


class Pause(NamedTuple):
    """A time in which nothing arrived, and the last record before it."""

    began: float  # long ago if this reader had read nothing yet
    ended: float
    checkpoint: Checkpoint


class _Last(NamedTuple):
    """The last record read. Its hash is computed on demand."""

    at: float
    next_offset: int
    leader_epoch: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.next_offset, self.leader_epoch, record_hash(self.key, self.value, self.timestamp_ms))


class Past:
    """Remembers checkpoints of what is read.

    `history` is to be saved with the position, oldest first. The last record before each pause is kept separately:
    after a cut, a checkpoint saved since then may already be of the new log.
    """

    def __init__(self, history: Sequence[Checkpoint] = (), most: int = CHECKPOINTS_MAX, recent: int = RECENT) -> None:
        self.history = tuple(history)
        self._most = most
        self._recent = recent
        self._last: _Last | None = None
        self._pauses: list[Pause] = []
        self._minutes: tuple[int, int] | None = None  # since the last checkpoint
        # The leader epoch in which the log was confirmed as the one that was read.
        self._leader_epoch = self.history[-1].leader_epoch if self.history else -1

    def cover(self, minute: int) -> None:
        """Note that a user of this minute is counted."""
        first, last = self._minutes or (minute, minute)
        self._minutes = min(first, minute), max(last, minute)

    def read(self, batch: Batch, now: float) -> None:
        """Note that a whole batch is read. One that cannot be unpacked tells nothing."""
        if batch.unreadable:
            return
        if self._last is None and self.history:
            self._pauses.append(Pause(-inf, now, self.history[-1]))
        elif self._last is not None and now - self._last.at >= PAUSE_SECONDS:
            self._pauses.append(Pause(self._last.at, now, self._last.checkpoint()))
        if len(self._pauses) > PAUSES_MAX:
            self._pauses.remove(min(self._pauses, key=lambda pause: pause.ended - pause.began))
        last = batch.keys[-1], batch.values[-1], batch.timestamps_ms[-1]
        self._last = _Last(now, batch.next_offset, batch.leader_epoch, *last)
        self._leader_epoch = batch.leader_epoch

    def remember(self) -> tuple[Checkpoint, ...]:
        """The history, including the position that is about to be saved."""
        reached = list(self.history)
        if self._last is not None and (not reached or reached[-1].next_offset < self._last.next_offset):
            reached.append(self._last.checkpoint())
        if reached:
            if self._minutes is not None:
                first, last = self._minutes
                reached[-1] = reached[-1].covering(reached[-1]._replace(first_minute=first, last_minute=last))
                self._minutes = None
            self.history = thinned(reached, self._most, self._recent)
        return self.history

    def new_leader(self, batch: Batch) -> bool:
        """Whether another leader took these records than those before: it may have had fewer of them."""
        return -1 not in {self._leader_epoch, batch.leader_epoch} and batch.leader_epoch != self._leader_epoch

    def trust(self, leader_epoch: int) -> None:
        """Note that the log was checked, and is the one that was read."""
        self._leader_epoch = leader_epoch

    def sure(self, until: float) -> None:
        """Note that the broker was there until this time: no pause that ended by then hides a cut."""
        self._pauses = [pause for pause in self._pauses if pause.ended > until]

    def suspects(self) -> list[Checkpoint]:
        """What a log that was cut back lately would lack: the last record, and those before pauses."""
        here = [self._last.checkpoint()] if self._last else self.history[-1:]
        return [*here, *(pause.checkpoint for pause in reversed(self._pauses))]

    def newest(self) -> list[Checkpoint]:
        """What a log that was cut back while nobody read it would lack."""
        return list(self.history[-NEWEST:])

    def go_back(self, offset: int) -> tuple[int, int] | None:
        """Forget what came after an offset. Returns the first and last minute of its users."""
        forgotten = [c for c in self.history if c.next_offset > offset]
        minutes = [minute for c in forgotten if c.last_minute for minute in (c.first_minute, c.last_minute)]
        minutes += self._minutes or ()
        self.history = tuple(c for c in self.history if c.next_offset <= offset)
        self._last, self._pauses, self._minutes = None, [], None
        return (min(minutes), max(minutes)) if minutes else None
