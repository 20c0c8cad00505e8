"""Checkpoints: what a reader remembers of a log, to recognise one that was cut back. Pure.

A log is *cut back* when a broker loses records that were read: it was restored from a copy, or the election was
unclean. Other records then take their offsets, so a position alone cannot tell that the history has changed.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

HASH_BYTES = 8
CHECKPOINTS_MAX = 48  # in a state: the newest, then others at doubling distances, back to the first
RECENT = 8  # how many of the newest are always kept
NEWEST = 4  # how many are compared on a restart: a crash may have hidden a cut just before it


class Checkpoint(NamedTuple):
    """A position that was reached, and the record before it.

    `first_minute` and `last_minute` bound the event times of the records since the previous checkpoint. Their buckets
    are in doubt when the log no longer holds these records. Both are 0 if there are none.
    """

    next_offset: int
    leader_epoch: int  # -1 if unknown
    record_hash: bytes  # of the record at next_offset - 1
    first_minute: int = 0
    last_minute: int = 0

    def covering(self, *others: "Checkpoint") -> "Checkpoint":
        """This checkpoint, extended to the minutes of the others."""
        covered = [c for c in (self, *others) if c.last_minute]
        if not covered:
            return self
        first, last = min(c.first_minute for c in covered), max(c.last_minute for c in covered)
        return self._replace(first_minute=first, last_minute=last)


def record_hash(key: bytes | None, value: bytes | None, timestamp_ms: int) -> bytes:
    """A hash of a record. Its time tells it from an equal one that was sent later."""
    digest = blake2b(b"%d" % timestamp_ms, digest_size=HASH_BYTES)
    for part in (key, value):
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")
    return digest.digest()


def thinned(history: Sequence[Checkpoint], most: int = CHECKPOINTS_MAX, recent: int = RECENT) -> tuple[Checkpoint, ...]:
    """At most `most` of these checkpoints: the oldest, the `recent` newest, and others ever farther apart.

    The next newer checkpoint takes over the minutes of one that is removed.
    """
    kept = list(history)
    while len(kept) > most:
        end = kept[-1].next_offset
        ages = [end - checkpoint.next_offset for checkpoint in kept]
        # The one whose neighbours are closest to each other, relative to their distance from the end.
        place = min(range(1, len(kept) - recent), key=lambda i: (ages[i - 1] + 1) / (ages[i + 1] + 1))
        kept[place + 1] = kept[place + 1].covering(kept[place])
        del kept[place]
    return tuple(kept)


class Found(NamedTuple):
    """How a log differs from what was read. `back_to` is the last checkpoint that it still agrees with, if any.

    Without one, it is effectively another log, to be read from its start. `offset` is where to read on.
    """

    back_to: Checkpoint | None
    offset: int
    end: int  # the log's end offset now
    differs_at: int  # the lowest offset at which the record differs from the one read, or is missing


def compare(
    history: Sequence[Checkpoint],
    suspects: Iterable[Checkpoint],
    low_high: tuple[int, int],
    agrees: Callable[[Checkpoint], bool | None],
) -> Found | None:
    """How the log between `low_high` differs from the history, oldest checkpoint first; None if no suspect shows it.

    `agrees` compares one checkpoint with the log. It returns None if the log cannot tell: the record was compacted
    away, or lies before the first one kept, in which case everything kept is read again.
    """
    first, end = low_high
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
