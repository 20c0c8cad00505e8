"""Buckets: the aligned stretches of event time whose users are counted. Pure.

A bucket is named by its start, in whole epoch seconds (UTC).
"""

from datetime import UTC, datetime
from typing import NamedTuple


class Interval(NamedTuple):
    """A length of buckets."""

    name: str
    seconds: int


MINUTE = Interval("minute", 60)


def bucket_timestamp(ts: int, interval_seconds: int = MINUTE.seconds) -> int:
    """Return the start of the bucket that holds `ts`, both in epoch seconds.

    >>> bucket_timestamp(1468244384)
    1468244340
    """
    return ts - ts % interval_seconds


def iso_time(ts: int) -> str:
    """Return epoch seconds as RFC 3339 text in UTC.

    >>> iso_time(1468244340)
    '2016-07-11T13:39:00Z'
    """
    return datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
