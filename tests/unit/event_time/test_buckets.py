import pytest
from hypothesis import given
from hypothesis import strategies as st

from unique_users.event_time.buckets import MINUTE, bucket_timestamp, iso_time
from unique_users.messages.event_times import TS_MAX

times = st.integers(0, TS_MAX)
lengths = st.integers(1, 10 * 86_400)


@given(times, lengths)
def test_a_bucket_is_aligned_and_holds_its_time(ts: int, seconds: int) -> None:
    bucket = bucket_timestamp(ts, seconds)
    assert bucket % seconds == 0
    assert bucket <= ts < bucket + seconds


@given(times, lengths)
def test_the_start_of_a_bucket_lies_in_it(ts: int, seconds: int) -> None:
    bucket = bucket_timestamp(ts, seconds)
    assert bucket_timestamp(bucket, seconds) == bucket
    assert bucket_timestamp(bucket + seconds - 1, seconds) == bucket
    assert bucket_timestamp(bucket + seconds, seconds) == bucket + seconds


@given(times)
def test_buckets_are_minutes_unless_told_otherwise(ts: int) -> None:
    assert bucket_timestamp(ts) == ts // 60 * 60
    assert MINUTE.seconds == 60


@pytest.mark.parametrize(
    ("ts", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_468_244_340, "2016-07-11T13:39:00Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (TS_MAX, "9999-12-31T23:59:59Z"),
    ],
)
def test_times_are_printed_in_utc(ts: int, text: str) -> None:
    assert iso_time(ts) == text
