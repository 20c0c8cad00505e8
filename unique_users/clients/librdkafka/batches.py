"""Batches of librdkafka's messages."""

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from unique_users.clients.protocols import Batch, Headers

# Called by map, these cost half of a loop that asks each message.
ERROR = Message.error
PARTITION = Message.partition
_KEY = Message.key
_VALUE = Message.value
_HEADERS: Callable[[Message], Headers | None] = Message.headers
_OFFSET = Message.offset
_TIMESTAMP = Message.timestamp  # its kind, and what is taken of it:
_MILLISECONDS: Callable[[tuple[int, int]], int] = itemgetter(1)


def time_of(message: Message) -> int:
    """The Kafka time of a message in milliseconds, -1 if it has none: librdkafka says 0 then, and its kind."""
    kind, at = message.timestamp()
    return -1 if kind == TIMESTAMP_NOT_AVAILABLE else at


def batch_of(partition: int, messages: Sequence[Message]) -> Batch:
    """These messages as columns, all of one partition and in offset order."""
    first, last = messages[0].offset(), messages[-1].offset()
    whole = last - first + 1 == len(messages)
    epoch = messages[-1].leader_epoch()
    times = list(map(_MILLISECONDS, map(_TIMESTAMP, messages)))
    if 0 in times:
        times = list(map(time_of, messages))
    return Batch(
        partition,
        list(map(_KEY, messages)),
        list(map(_VALUE, messages)),
        times,
        range(first, last + 1) if whole else list(map(_OFFSET, messages)),
        leader_epoch=-1 if epoch is None else epoch,
        headers=partial(_headers, messages),
    )


def _headers(messages: Sequence[Message], place: int) -> Headers:
    """A message's headers, or none if their names are not UTF-8, which librdkafka's package cannot return.

    The package returns with an error set. Called through map, that raises here; called directly, it would raise
    wherever Python checks for errors next.
    """
    try:
        return next(map(_HEADERS, messages[place : place + 1])) or []
    except SystemError:
        return []
