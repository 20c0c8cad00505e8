"""Marks: which buckets may be wrong, and why. Pure.

A *gap* is a stretch of event time in which something is missing, or there may be too much. A bucket that overlaps one
is not whole, and says so wherever its count is shown.
"""

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from unique_users.event_time.buckets import LONGEST_SECONDS, Bucket, Calendar

ALWAYS = 1 << 62  # an end that no bucket reaches
UNTIL_KNOWN = ALWAYS + 1  # the same, until the first remaining record tells the end
GAPS_MAX = 64  # of one interval and reason; beyond that, the nearest are joined


class Why(StrEnum):
    """Why a count may be wrong. The list is closed."""

    STATE_LOST = "state_lost"  # recounted from a topic whose start is gone: too low
    RECORDS_DELETED = "records_deleted"  # the topic's retention deleted records before they were read: too low
    RECORDS_UNREADABLE = "records_unreadable"  # a batch could not be unpacked and was skipped: too low
    FILLED_LATE = "filled_late"  # the interval was added later, from what the state still held: too low
    LOG_CUT_BACK = "log_cut_back"  # the log lost records that were counted: too high
    COUNT_REMOVED = "count_removed"  # a partition's count has left the topic, counter.publish_keep_days: too low


class Gap(NamedTuple):
    """A stretch of event time, from `start` up to but not including `end`, in epoch seconds.

    It concerns the buckets of one interval, or of all intervals if `interval` is empty.
    """

    interval: str
    start: int
    end: int
    why: Why


def why_not_whole(gaps: Iterable[Gap], bucket: Bucket, calendar: Calendar) -> tuple[Why, ...]:
    """Why a bucket is not whole, each reason once and in order; empty for a whole one."""
    found = {gap.why for gap in gaps if _concerns(gap, bucket, calendar)}
    return tuple(sorted(found))


def why_range(gaps: Iterable[Gap], start: int, end: int, interval: str) -> tuple[Why, ...]:
    """Like `why_not_whole`, for what is counted from the buckets of `interval` between two times."""
    overlapping = (gap for gap in gaps if gap.interval in {"", interval} and start < gap.end and gap.start < end)
    return tuple(sorted({gap.why for gap in overlapping}))


def why_missing(gaps: Iterable[Gap], bucket: Bucket) -> tuple[Why, ...]:
    """Like `why_not_whole`, if the end of a day or longer bucket is unknown: one right before a gap is marked too."""
    return why_range(gaps, bucket.start, bucket.start + LONGEST_SECONDS[bucket.interval], bucket.interval)


def with_gaps(gaps: Iterable[Gap], more: Iterable[Gap], gaps_max: int = GAPS_MAX) -> tuple[Gap, ...]:
    """Both together, joined if they overlap or touch, so adding a gap twice changes nothing.

    At most `gaps_max` of one interval and reason: beyond that the nearest are joined, which marks more and never less.
    """
    found: list[Gap] = []
    kind = attrgetter("interval", "why")
    for _, alike in groupby(sorted({*gaps, *more}, key=lambda gap: (kind(gap), gap)), kind):
        found += _joined(list(alike), gaps_max)
    return tuple(sorted(found))


def _joined(gaps: Sequence[Gap], gaps_max: int) -> list[Gap]:
    """Gaps of one kind as disjoint gaps, sorted by their starts."""
    apart: list[Gap] = []
    for gap in gaps:
        if apart and gap.start <= apart[-1].end:
            apart[-1] = apart[-1]._replace(end=max(apart[-1].end, gap.end))
        else:
            apart.append(gap)
    while len(apart) > gaps_max:
        at = min(range(1, len(apart)), key=lambda at: apart[at].start - apart[at - 1].end)
        apart[at - 1 : at + 1] = [apart[at - 1]._replace(end=apart[at].end)]
    return apart


def ended(gaps: Iterable[Gap], end: int) -> tuple[Gap, ...]:
    """The gaps; those whose end was not known yet end at `end`."""
    return with_gaps([gap._replace(end=max(end, gap.start)) if gap.end == UNTIL_KNOWN else gap for gap in gaps], ())


def still_needed(gaps: Iterable[Gap], floor: int, held: Collection[Bucket], calendar: Calendar) -> tuple[Gap, ...]:
    """The gaps that some bucket can still overlap: one of those `held`, or a future one.

    Future buckets hold minutes from `floor` on.
    """
    return tuple(
        gap for gap in gaps if gap.end > floor or any(b.start < gap.end and _concerns(gap, b, calendar) for b in held)
    )


RECORD_AHEAD_SECONDS = 3_600  # a broker's default of log.message.timestamp.after.max.ms


def gap_of_deleted(why: Why, start: int, first_kept_ms: int, future_seconds_max: int) -> Gap:
    """What may be missing if records were deleted before one of this Kafka time, which is -1 if it has none.

    A frame's time is at most `future_seconds_max` ahead of its record's, which in turn may be ahead of later records:
    by as much as a broker lets producers' clocks run ahead.
    """
    ahead = future_seconds_max + RECORD_AHEAD_SECONDS
    end = first_kept_ms // 1000 + ahead if first_kept_ms >= 0 else ALWAYS
    return Gap("", start, max(start, end), why)


def words(why: Sequence[str]) -> str:
    """The end of a line for people: `  not whole: state lost`; with several reasons, how many more."""
    if not why:
        return ""
    return f"  not whole: {why[0].replace('_', ' ')}" + (f" +{len(why) - 1}" if len(why) > 1 else "")


def fields(why: Sequence[str]) -> dict[str, object]:
    """The fields for a JSON line; empty for a whole bucket."""
    return {"whole": False, "why": list(why)} if why else {}


def _concerns(gap: Gap, bucket: Bucket, calendar: Calendar) -> bool:
    return gap.interval in {"", bucket.interval} and bucket.start < gap.end and gap.start < calendar.end(bucket)
