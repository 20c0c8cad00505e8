"""Queries: the exact unique users between two times, from the minutes that the counters have saved. Pure.

Users are united over minutes and partitions, so an answer is right for either `partition_by`.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

import orjson

from unique_users.aggregation.completeness import Why, fields, why_range, words
from unique_users.aggregation.counts import Count
from unique_users.errors import UsageError
from unique_users.event_time.buckets import MINUTE, Bucket, Calendar, bucket_timestamp, iso_time
from unique_users.reports.bucket_count import Format
from unique_users.state.metadata import Facts

_UNIT_SECONDS = {"minute": 60, "hour": 3_600, "day": 86_400, "week": 7 * 86_400}
_DURATION = re.compile(r"\s*([0-9]{1,7})\s*(minute|hour|day|week)s?\s*", re.ASCII)


class Saved(Protocol):
    """What a query needs from the state of a partition; see snapshot.SavedState. Every method may raise StateError."""

    floor: int
    facts: Facts

    @property
    def counts(self) -> Mapping[Bucket, Count]:
        """The unique users of each bucket."""

    def load(self, bucket: Bucket) -> Iterable[str]:
        """The uids of a bucket."""


class Range(NamedTuple):
    """The minutes from `start` up to but not including `end`, both whole minutes in epoch seconds."""

    start: int
    end: int

    def split(self, interval: str, calendar: Calendar) -> Iterator["Range"]:
        """Its parts in each bucket of an interval; the first and the last may be shorter than the bucket."""
        start = self.start
        while start < self.end:
            end = min(calendar.end(Bucket(interval, calendar.start(interval, start))), self.end)
            yield Range(start, end)
            start = end


class Answer(NamedTuple):
    """The unique users of a range."""

    range: Range
    unique_users: int
    why: tuple[Why, ...] = ()  # why it may be wrong; empty for a whole one

    def line(self, form: Format, by: str | None, calendar: Calendar) -> str:
        """As one line, with times as in a report of the interval `by`."""
        start, end = (calendar.text(Bucket(by or MINUTE.name, ts)) for ts in self.range)
        if form == "json":
            return orjson.dumps(
                {"from": start, "to": end, "unique_users": self.unique_users, **fields(self.why)}
            ).decode()
        return f"{start}  {end}  {self.unique_users:,} unique users{words(self.why)}"


def minute_of(text: str) -> int:
    """The minute that an ISO 8601 string names, in epoch seconds. Raises UsageError."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        message = f"expected a time like 2016-07-11T13:39:00Z, got {text!r}"
        raise UsageError(message) from None
    if time.tzinfo is None:
        message = f"{text!r} has no time zone: add Z or an offset like +02:00"
        raise UsageError(message)
    ts = time.timestamp()
    if ts != bucket_timestamp(int(ts)):
        message = f"{text!r} is not a whole minute: users are kept by minute"
        raise UsageError(message)
    return int(ts)


def duration_seconds(text: str) -> int:
    """The seconds of a duration such as "15 minutes". Raises UsageError."""
    match = _DURATION.fullmatch(text)
    if match is None or not int(match[1]):
        message = f"expected a duration like '15 minutes', in minutes, hours, days or weeks, got {text!r}"
        raise UsageError(message)
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def last(states: Sequence[Saved], seconds: int) -> Range:
    """The range of `seconds` that ends with the newest minute of event time. Raises UsageError if there is none."""
    newest = max((b.start for state in states for b in state.counts if _is_minute(b)), default=None)
    if newest is None:
        raise UsageError("no minute is saved yet: wait for counter.py")
    end = newest + MINUTE.seconds
    return Range(max(0, end - seconds), end)


def answers(states: Sequence[Saved], asked: Range, by: str | None, calendar: Calendar) -> Iterator[Answer]:
    """The unique users of a range, or of its part in each bucket of the interval `by`, oldest first.

    Raises UsageError if the range is empty or its minutes have left the state, StateError if a state is damaged.
    """
    if asked.start >= asked.end:
        message = f"expected a range that ends after its start, got {iso_time(asked.start)} to {iso_time(asked.end)}"
        raise UsageError(message)
    floor = max((state.floor for state in states), default=0)
    if asked.start < floor:
        message = (
            f"the minutes before {iso_time(floor)} are no longer kept (counter.retention_seconds):"
            f" let the range start there, not at {iso_time(asked.start)}"
        )
        raise UsageError(message)
    held = sorted((b.start, place) for place, state in enumerate(states) for b in state.counts if _is_minute(b))
    gaps = [gap for state in states for gap in state.facts.all_gaps]
    for part in asked.split(by, calendar) if by else [asked]:
        users: set[str] = set()
        for start, place in held[bisect_left(held, (part.start,)) : bisect_left(held, (part.end,))]:
            users.update(states[place].load(Bucket(MINUTE.name, start)))
        yield Answer(part, len(users), why_range(gaps, *part, MINUTE.name))


def _is_minute(bucket: Bucket) -> bool:
    return bucket.interval == MINUTE.name
