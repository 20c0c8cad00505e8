"""Committed positions as librdkafka reads them."""

from confluent_kafka import TopicPartition

from unique_users.clients.protocols import Position


def position_of(committed: TopicPartition) -> Position | None:
    """The position that was read, None where nothing was committed."""
    return None if committed.offset < 0 else Position(committed.offset, _metadata(committed))


def _metadata(committed: TopicPartition) -> str:
    """The text stored with a position.

    This client writes a zero byte behind it, and needs that to find the end of it. Behind a text of another client
    that has none, there may be a few bytes of anything, which only the reader of the text can tell from it.
    """
    try:
        return committed.metadata or ""
    except UnicodeDecodeError as error:
        return error.object[: error.start].decode()
