"""Checkpoints: what a reader of a log remembers of its own past, to recognise a log that was cut back. Pure.

A log is *cut back* when a broker loses records that were read: one that was restored from a copy, or an unclean
election. Other records then take their offsets, so a position alone does not tell that it is of another history.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

HASH_BYTES = 8
CHECKPOINTS_MAX = 48  # of a state: the newest, and others at distances that double, back to the first
RECENT = 8  # so many of the newest are kept whatever their distance
NEWEST = 4  # what is looked at when reading goes on: a crash may have come just after a cut, before it was noticed


class Checkpoint(NamedTuple):
    """A position that was reached, and the record before it.

    `first_minute` and `last_minute` bound the event times of the records between the checkpoint before this one and
    this one: their buckets are the ones to doubt when the log no longer holds these records. Both are 0 for none.
    """

    next_offset: int
    leader_epoch: int  # -1 where unknown
    record_hash: bytes  # of the record at next_offset - 1
    first_minute: int = 0
    last_minute: int = 0

    def covering(self, *others: "Checkpoint") -> "Checkpoint":
        """This checkpoint, which now stands for the minutes of these others too."""
        covered = [c for c in (self, *others) if c.last_minute]
        if not covered:
            return self
        first, last = min(c.first_minute for c in covered), max(c.last_minute for c in covered)
        return self._replace(first_minute=first, last_minute=last)


def record_hash(key: bytes | None, value: bytes | None, timestamp_ms: int) -> bytes:
    """What is remembered of a record. Its time tells it from an equal one that was sent later."""
    digest = blake2b(b"%d" % timestamp_ms, digest_size=HASH_BYTES)
    for part in (key, value):
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")
    return digest.digest()


def thinned(history: Sequence[Checkpoint], most: int = CHECKPOINTS_MAX, recent: int = RECENT) -> tuple[Checkpoint, ...]:
    """At most so many of these checkpoints: the oldest, the `recent` newest, the others ever farther apart.

    The minutes of one that goes are taken over by the next newer one.
    """
    kept = list(history)
    while len(kept) > most:
        end = kept[-1].next_offset
        ages = [end - checkpoint.next_offset for checkpoint in kept]
        # The one whose neighbours are nearest to each other, in proportion to their distance from the end.
        place = min(range(1, len(kept) - recent), key=lambda i: (ages[i - 1] + 1) / (ages[i + 1] + 1))
        kept[place + 1] = kept[place + 1].covering(kept[place])
        del kept[place]
    return tuple(kept)


class Found(NamedTuple):
    """How a log differs from what was read: `back_to` is the last checkpoint that it still agrees with, if any.

    Without one it is as good as another log, to be read from its start. `offset` is where to read on.
    """

    back_to: Checkpoint | None
    offset: int
    end: int  # of the log as it is now
    differs_at: int  # the lowest offset that was seen to hold another record than the one read, or none


def compare(
    history: Sequence[Checkpoint],
    suspects: Iterable[Checkpoint],
    bounds: tuple[int, int],
    agrees: Callable[[Checkpoint], bool | None],
) -> Found | None:
    """How the log between `bounds` differs from the history, oldest checkpoint first; None when no suspect says so.

    `agrees` compares one checkpoint with the log: None when the log cannot tell, as a record was compacted away. Nor
    can it when the record lies before the first one kept; then all that is kept is read again.
    """
    first, end = bounds
    different = [c.next_offset for c in suspects if first < c.next_offset and not _may_be(c, end, agrees)]
    if not different:
        return None
    lowest = min(different)
    for checkpoint in reversed(history):
        if checkpoint.next_offset >= lowest:
            continue
        trimmed = checkpoint.next_offset <= first
        verdict = trimmed or (checkpoint.next_offset <= end and agrees(checkpoint))
        if verdict:
            return Found(checkpoint, max(first, checkpoint.next_offset), end, lowest - 1)
        if verdict is False:
            lowest = checkpoint.next_offset
    return Found(None, first, end, lowest - 1)


def _may_be(checkpoint: Checkpoint, end: int, agrees: Callable[[Checkpoint], bool | None]) -> bool:
    return checkpoint.next_offset <= end and agrees(checkpoint) is not False
