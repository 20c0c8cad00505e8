"""Committed positions as librdkafka reads them."""

from confluent_kafka import TopicPartition

from unique_users.clients.protocols import Position


def position_of(committed: TopicPartition) -> Position | None:
    """The position that was read, or None if nothing was committed."""
    return None if committed.offset < 0 else Position(committed.offset, _metadata(committed))


def _metadata(committed: TopicPartition) -> str:
    """The metadata stored with a position.

    This client writes a zero byte after it, and needs that to find its end. Metadata of another client without one may
    be followed by a few arbitrary bytes, which only the reader of the metadata can tell from it.
    """
    try:
        return committed.metadata or ""
    except UnicodeDecodeError as error:
        return error.object[: error.start].decode()
