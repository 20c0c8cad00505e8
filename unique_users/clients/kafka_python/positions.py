"""Committed positions as kafka-python reads and writes them."""

from kafka import OffsetAndMetadata

from unique_users.clients.protocols import Position


def position_of(committed: OffsetAndMetadata) -> Position | None:
    """The position that was read, or None if nothing was committed."""
    if committed.offset < 0:
        return None
    return Position(committed.offset, (committed.metadata or "").rstrip("\0"))


def to_commit(position: Position) -> OffsetAndMetadata:
    """The position as confluent-kafka writes it: that client reads past metadata without a final zero byte."""
    return OffsetAndMetadata(position.offset, position.metadata + "\0" if position.metadata else "", -1)
