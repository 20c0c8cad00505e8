"""Marks: which buckets may be wrong, and why. Pure.

A *gap* is a stretch of event time of which something is missing, or may be too much. A bucket that overlaps one is not
whole, and says so wherever its count is shown.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from unique_users.buckets import Bucket, Calendar

ALWAYS = 1 << 62  # an end that no bucket reaches


class Why(StrEnum):
    """Why a count may be wrong. The list is closed."""

    STATE_LOST = "state_lost"  # counted again from a topic whose start is gone: too low
    RECORDS_DELETED = "records_deleted"  # the topic's retention deleted records before they were read: too low
    FILLED_LATE = "filled_late"  # the interval was added later, from what the state still held: too low
    LOG_CUT_BACK = "log_cut_back"  # the log lost records that were counted: too high


class Gap(NamedTuple):
    """A stretch of event time, from `start` up to and without `end`, in epoch seconds.

    It concerns the buckets of one interval, or of all for an empty `interval`.
    """

    interval: str
    start: int
    end: int
    why: Why


def why_not_whole(gaps: Iterable[Gap], bucket: Bucket, calendar: Calendar) -> tuple[Why, ...]:
    """Why a bucket is not whole, each reason once and in order; empty for a bucket that is."""
    found = {gap.why for gap in gaps if _concerns(gap, bucket, calendar)}
    return tuple(sorted(found))


def _concerns(gap: Gap, bucket: Bucket, calendar: Calendar) -> bool:
    return gap.interval in {"", bucket.interval} and bucket.start < gap.end and gap.start < calendar.end(bucket)
