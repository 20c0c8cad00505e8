"""Buckets: the stretches of event time whose users are counted. Pure.

A bucket is named by its interval and its start, in whole epoch seconds. Buckets of up to an hour are aligned in UTC;
longer ones are days, ISO weeks, months and years of the calendar in a time zone.
"""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo


class Interval(NamedTuple):
    """A length of buckets."""

    name: str
    seconds: int


class Bucket(NamedTuple):
    """One stretch of event time."""

    interval: str
    start: int


IntervalName = Literal["minute", "5 minutes", "hour", "day", "week", "month", "year"]

MINUTE = Interval("minute", 60)
DAY_SECONDS = 86_400
_FIXED = {"minute": 60, "5 minutes": 300, "hour": 3_600}
_DAYS_MAX = {"day": 1, "week": 7, "month": 31, "year": 366}
INTERVALS = (*_FIXED, *_DAYS_MAX)  # from short to long
# The longest that a bucket can be: an hour more than its days, because the clock may be set back.
LONGEST_SECONDS = {**_FIXED, **{name: days * 86_400 + 3_600 for name, days in _DAYS_MAX.items()}}

# The last time that has a date in every zone: the calendar ends with the year 9999.
_LAST = int(datetime(9999, 12, 30, tzinfo=UTC).timestamp())


def bucket_timestamp(ts: int, interval_seconds: int = MINUTE.seconds) -> int:
    """Return the start of the bucket that holds `ts`, both in epoch seconds.

    >>> bucket_timestamp(1468244384)
    1468244340
    """
    return ts - ts % interval_seconds


def iso_time(ts: int) -> str:
    """Return epoch seconds as an RFC 3339 string in UTC.

    >>> iso_time(1468244340)
    '2016-07-11T13:39:00Z'
    """
    return datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Calendar:
    """The buckets of every interval; days and longer ones are in the zone `timezone` (an IANA name)."""

    def __init__(self, timezone: str = "UTC") -> None:
        self.timezone = timezone
        self._zone = ZoneInfo(timezone)
        self._start = lru_cache(maxsize=4_096)(self._calendar_start)

    def start(self, interval: str, ts: int) -> int:
        """The start of the bucket that holds the minute beginning at `ts`."""
        seconds = _FIXED.get(interval)
        return bucket_timestamp(ts, seconds) if seconds else self._start(interval, ts)

    def end(self, bucket: Bucket) -> int:
        """The first second after a bucket."""
        seconds = _FIXED.get(bucket.interval)
        if seconds:
            return bucket.start + seconds
        return self._midnight(_next(bucket.interval, self._date(bucket.start)))

    def holds(self, wide: str, bucket: Bucket) -> bool:
        """Whether a bucket lies entirely in one of the interval `wide`."""
        last_minute = max(bucket.start, self.end(bucket) - MINUTE.seconds)
        return self.start(wide, bucket.start) == self.start(wide, last_minute)

    def zone_of(self, interval: str) -> str:
        """The zone that an interval's buckets follow; empty up to an hour."""
        return "" if interval in _FIXED else self.timezone

    def text(self, bucket: Bucket) -> str:
        """A bucket's start as an RFC 3339 string: in UTC up to an hour, with the zone's offset from a day upwards."""
        if bucket.interval in _FIXED or self.timezone == "UTC":
            return iso_time(bucket.start)
        return datetime.fromtimestamp(bucket.start, self._zone).isoformat()

    def _calendar_start(self, interval: str, ts: int) -> int:
        return self._midnight(_first(interval, self._date(ts)))

    def _date(self, ts: int) -> date:
        return datetime.fromtimestamp(min(ts, _LAST), self._zone).date()

    def _midnight(self, day: date) -> int:
        # If the clocks skip midnight, the day begins when they do; of two midnights the first counts.
        return int(datetime(day.year, day.month, day.day, tzinfo=self._zone).timestamp())


def _first(interval: str, day: date) -> date:
    """The first day of the bucket that holds a day."""
    if interval == "week":
        return day - timedelta(days=day.weekday())
    if interval == "month":
        return day.replace(day=1)
    return day.replace(month=1, day=1) if interval == "year" else day


def _next(interval: str, first: date) -> date:
    """The first day after the bucket that begins with `first`; the calendar's last day if there is none."""
    longest = _DAYS_MAX[interval]
    if first > date.max - timedelta(days=longest):
        return date.max
    after = first + timedelta(days=longest)
    return after if interval in {"day", "week"} else _first(interval, after)
