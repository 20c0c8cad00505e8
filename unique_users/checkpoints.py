"""Checkpoints: what a reader of a log remembers of its own past, to recognise a log that was cut back. Pure."""

from hashlib import blake2b
from typing import NamedTuple

HASH_BYTES = 8


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


def record_hash(key: bytes | None, value: bytes | None) -> bytes:
    """What is remembered of a record."""
    digest = blake2b(digest_size=HASH_BYTES)
    for part in (key, value):
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")
    return digest.digest()
