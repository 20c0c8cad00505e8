from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unique_users.event_time.buckets import INTERVALS, Bucket, Calendar
from unique_users.messages.event_times import TS_MAX

ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Africa/Cairo", "Asia/Kathmandu", "America/New_York"]


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def bucket_of(zone: str, interval: str, text: str) -> tuple[str, str]:
    """The text of the bucket that holds a time, and of the one after it."""
    calendar = Calendar(zone)
    bucket = Bucket(interval, calendar.start(interval, at(text)))
    return calendar.text(bucket), calendar.text(Bucket(interval, calendar.end(bucket)))


@pytest.mark.parametrize(
    ("interval", "start", "end"),
    [
        ("minute", "2024-03-06T13:39:00Z", "2024-03-06T13:40:00Z"),
        ("5 minutes", "2024-03-06T13:35:00Z", "2024-03-06T13:40:00Z"),
        ("hour", "2024-03-06T13:00:00Z", "2024-03-06T14:00:00Z"),
        ("day", "2024-03-06T00:00:00Z", "2024-03-07T00:00:00Z"),
        ("week", "2024-03-04T00:00:00Z", "2024-03-11T00:00:00Z"),
        ("month", "2024-03-01T00:00:00Z", "2024-04-01T00:00:00Z"),
        ("year", "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
    ],
)
def test_each_interval_has_its_start_and_its_end(interval: str, start: str, end: str) -> None:
    assert bucket_of("UTC", interval, "2024-03-06T13:39:00Z") == (start, end)


def test_an_iso_week_may_begin_in_the_year_before() -> None:
    assert bucket_of("UTC", "week", "2027-01-02T00:00:00Z") == ("2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z")


@pytest.mark.parametrize(
    ("zone", "noon", "start", "hours"),
    [
        ("Europe/Berlin", "2024-03-31T12:00:00+02:00", "2024-03-31T00:00:00+01:00", 23),
        ("Europe/Berlin", "2024-10-27T12:00:00+01:00", "2024-10-27T00:00:00+02:00", 25),
        ("America/Sao_Paulo", "2018-11-04T12:00:00-02:00", "2018-11-04T01:00:00-02:00", 23),
        ("America/Sao_Paulo", "2018-02-17T12:00:00-02:00", "2018-02-17T00:00:00-02:00", 25),
        ("Africa/Cairo", "2024-04-26T12:00:00+03:00", "2024-04-26T01:00:00+03:00", 23),
        ("Asia/Kathmandu", "2024-01-01T12:00:00+05:45", "2024-01-01T00:00:00+05:45", 24),
    ],
)
def test_a_day_is_the_zones_own_also_when_the_clocks_change(zone: str, noon: str, start: str, hours: int) -> None:
    """Sao Paulo and Cairo skip midnight: there the day begins at one o'clock."""
    calendar = Calendar(zone)
    bucket = Bucket("day", calendar.start("day", at(noon)))
    assert calendar.text(bucket) == start
    assert calendar.end(bucket) - bucket.start == hours * 3_600


@given(st.integers(0, TS_MAX).map(lambda ts: ts // 60 * 60), st.sampled_from(ZONES), st.sampled_from(INTERVALS))
def test_the_start_of_a_bucket_lies_in_it_and_its_end_does_not(ts: int, zone: str, interval: str) -> None:
    calendar = Calendar(zone)
    start = calendar.start(interval, ts)
    assert start <= ts
    assert calendar.start(interval, start) == start
    end = calendar.end(Bucket(interval, start))
    if end < at("9999-01-01T00:00:00Z"):
        assert ts < end
        assert calendar.start(interval, end) == end


def test_an_hour_lies_in_a_day_unless_the_zones_offset_is_no_whole_hour() -> None:
    hour = Bucket("hour", at("2024-01-01T18:00:00Z"))
    assert Calendar("Europe/Berlin").holds("day", hour)
    assert not Calendar("Asia/Kathmandu").holds("day", hour)
    assert not Calendar().holds("month", Bucket("week", at("2024-01-29T00:00:00Z")))
