"""Where to read on in a partition, and what became of the records in between."""

from unique_users.clients import Consumer
from unique_users.lifecycle import say


def readable_offset(consumer: Consumer, topic: str, partition: int, wanted: int | None) -> int:
    """Return the offset to read from: `wanted`, or the first kept record when that cannot be read.

    Says in one line what is missing: records that the topic's retention deleted before they were read, or all of a
    topic that is shorter than what was read of it, so that it must be a new one. Raises BrokerAwayError.
    """
    first, end = consumer.bounds([partition])[partition]
    if wanted is None:
        return first
    if wanted < first:
        say(
            f"{topic}-{partition}: {first - wanted} records were deleted by the topic's retention before they were"
            f" read (offsets {wanted} to {first - 1}): going on with what is left"
        )
        return first
    if wanted > end:
        say(
            f"{topic}-{partition}: the next offset to read is {wanted}, but the topic ends at {end}: it was deleted"
            " and created again; reading it from its start"
        )
        return first
    return wanted
