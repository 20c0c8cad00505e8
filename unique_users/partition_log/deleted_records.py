"""Where to read on in a partition, and what to say about records that no longer exist."""

import logging

from unique_users.aggregation.completeness import ALWAYS
from unique_users.clients.protocols import Batch, Consumer
from unique_users.errors import BrokerAwayError
from unique_users.event_time.buckets import iso_time

_log = logging.getLogger(__name__)

ANSWER_SECONDS = 0.5  # for requests outside of reading: a silent broker must not delay a report


def readable_offset(topic: str, partition: int, wanted: int, low_high: tuple[int, int]) -> int:
    """Return the offset to read from: `wanted`, or that of the first kept record when `wanted` is not kept.

    Says in one line what is missing: records that the topic's retention deleted before they were read.
    """
    first, _ = low_high
    if wanted < first:
        say_lost(topic, partition, wanted, first)
    return max(wanted, first)


RECREATED = "it ends before that, so it was deleted and recreated"
OTHER = "it holds other records, so it was deleted and recreated"


def look_for_loss(consumer: Consumer, topic: str, batch: Batch, position: int) -> bool:
    """Whether records between `position` and the next batch were deleted before they were read; says so.

    Transactions and compaction also leave offsets out. If the broker cannot be asked, a loss must be assumed.
    """
    try:
        first, _ = consumer.watermark_offsets([batch.partition], ANSWER_SECONDS)[batch.partition]
    except BrokerAwayError:
        first = batch.offsets[0]
    if first > position:
        say_lost(topic, batch.partition, position, first)
    return first > position


def say_lost(topic: str, partition: int, position: int, first: int) -> None:
    """Say that retention deleted records before this program read them."""
    _log.warning(
        f"{topic}-{partition}: {first - position} records were deleted by the topic's retention before they were read"
        f" (offsets {position} to {first - 1}): the counts of their minutes are too low"
    )


def say_unreadable(topic: str, batch: Batch) -> None:
    """Say that records cannot be unpacked and are skipped."""
    _log.warning(
        f"{topic}-{batch.partition}: skipping offsets {batch.offsets[0]} to {batch.offsets[-1]}: {batch.unreadable}"
    )


def say_trimmed(topic: str, batch: Batch, whole_from: int) -> None:
    """Say from when on counts are whole if the start of the topic is gone; `batch` is its first batch."""
    since = (
        f"counts are whole for minutes from {iso_time(whole_from)} on"
        if whole_from < ALWAYS
        else "no record has a time"
    )
    _log.warning(
        f"{topic}-{batch.partition}: there is no state, and the topic's retention has deleted offsets 0 to"
        f" {batch.offsets[0] - 1}: {since}; earlier ones may be too low and are marked as not whole"
    )
