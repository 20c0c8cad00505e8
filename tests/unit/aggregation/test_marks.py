"""Marks: whatever may be wrong says so, until it is closed or whole."""

from hypothesis import given
from hypothesis import strategies as st

from unique_users.aggregation.completeness import (
    ALWAYS,
    UNTIL_KNOWN,
    Gap,
    Why,
    ended,
    fields,
    gap_of_deleted,
    still_needed,
    why_not_whole,
    why_range,
    with_gaps,
    words,
)
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.messages.frame_totals import FrameTotals
from unique_users.messages.offset_metadata import GAPS_MAX, OffsetMetadata
from unique_users.messages.partitioning import Layout
from unique_users.reports.bucket_count import BucketCount

NOON = 1_468_238_400  # 2016-07-11T12:00:00Z
CALENDAR = Calendar()
HOUR = 3_600

gaps = st.lists(
    st.builds(
        lambda interval, start, length, why: Gap(interval, NOON + 60 * start, NOON + 60 * (start + length), why),
        st.sampled_from(["", "minute", "hour"]),
        st.integers(0, 100),
        st.integers(1, 30),
        st.sampled_from([Why.STATE_LOST, Why.RECORDS_DELETED]),
    ),
    max_size=12,
)
BUCKETS = [Bucket("minute", NOON + 60 * n) for n in range(140)] + [Bucket("hour", NOON + HOUR * n) for n in range(3)]


@given(gaps, gaps)
def test_joined_gaps_mark_what_each_of_them_marks_and_nothing_else(some: list[Gap], more: list[Gap]) -> None:
    joined = with_gaps(with_gaps((), some), more)
    for bucket in BUCKETS:
        assert why_not_whole(joined, bucket, CALENDAR) == why_not_whole([*some, *more], bucket, CALENDAR)
    assert with_gaps(joined, more) == with_gaps(joined, some) == joined, "what is known already changes nothing"


@given(gaps, st.integers(1, 3))
def test_too_many_gaps_are_joined_to_larger_ones(some: list[Gap], gaps_max: int) -> None:
    joined = with_gaps((), some, gaps_max)
    for bucket in BUCKETS:
        assert set(why_not_whole(joined, bucket, CALENDAR)) >= set(why_not_whole(some, bucket, CALENDAR))
    for kind in {(gap.interval, gap.why) for gap in some}:
        assert sum((gap.interval, gap.why) == kind for gap in joined) <= gaps_max


@given(gaps, st.integers(0, 140))
def test_a_gap_goes_when_no_bucket_can_overlap_it_any_more(some: list[Gap], minutes: int) -> None:
    floor = NOON + 60 * minutes
    held = [bucket for bucket in BUCKETS if CALENDAR.end(bucket) > floor]
    left = still_needed(some, floor, held, CALENDAR)
    for bucket in held:
        assert why_not_whole(left, bucket, CALENDAR) == why_not_whole(some, bucket, CALENDAR)
    assert still_needed(some, NOON + HOUR * 3, [], CALENDAR) == ()


def test_a_gap_of_unknown_end_ends_with_the_first_record_that_is_left() -> None:
    open_one = Gap("", 0, UNTIL_KNOWN, Why.STATE_LOST)
    known = Gap("month", 0, NOON, Why.FILLED_LATE)
    assert ended([open_one, known], NOON + HOUR) == (Gap("", 0, NOON + HOUR, Why.STATE_LOST), known)
    assert why_not_whole([open_one], Bucket("minute", NOON), CALENDAR) == (Why.STATE_LOST,)


def test_a_frame_is_at_most_so_far_ahead_of_its_record_and_that_of_later_ones() -> None:
    assert gap_of_deleted(Why.STATE_LOST, 0, NOON * 1000, 60) == Gap("", 0, NOON + 60 + HOUR, Why.STATE_LOST)
    assert gap_of_deleted(Why.STATE_LOST, 5, -1, HOUR).end == ALWAYS, "a record without a time"


def test_a_range_is_whole_outside_of_the_gaps_of_its_buckets() -> None:
    some = [Gap("", NOON, NOON + 60, Why.STATE_LOST), Gap("month", 0, NOON, Why.FILLED_LATE)]
    assert why_range(some, NOON - 60, NOON + 60, "minute") == (Why.STATE_LOST,)
    assert why_range(some, NOON - 600, NOON, "minute") == why_range(some, NOON + 60, NOON + 600, "minute") == ()


def test_a_line_says_shortly_why_a_count_may_be_wrong() -> None:
    assert words(()) == ""
    assert words((Why.STATE_LOST,)) == "  not whole: state lost"
    assert words((Why.FILLED_LATE, Why.RECORDS_DELETED)) == "  not whole: filled late +1"
    assert fields(()) == {}
    assert fields((Why.FILLED_LATE,)) == {"whole": False, "why": ["filled_late"]}


def test_a_marked_line_fits_a_terminal() -> None:
    both = (Why.RECORDS_DELETED, Why.STATE_LOST)
    line = BucketCount(NOON, 12_345_678, 12_345_678, "5 minutes", both).line("text", Calendar("Europe/Berlin"))
    assert line.endswith("12,345,678 unique users  +12,345,678  not whole: records deleted +1")
    assert len(line) <= 100


@given(gaps)
def test_gaps_travel_in_the_metadata_of_a_commit(some: list[Gap]) -> None:
    deleted = [gap._replace(interval="", why=Why.RECORDS_DELETED) for gap in some]
    metadata = OffsetMetadata("id", "", Layout("", "uid", 2), FrameTotals(3, 3), 5, gaps=tuple(deleted))
    found = OffsetMetadata.parsed(metadata.text())
    assert found == metadata._replace(gaps=with_gaps((), deleted, GAPS_MAX))
    assert OffsetMetadata.parsed("id clock1: /uid/2 gaps=1:x").gaps == OffsetMetadata.parsed("").gaps == ()
