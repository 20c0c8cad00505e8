"""Generations: counts of two topics are never mixed, those of one topic always are."""

import json

import pytest

from unique_users.aggregation.completeness import UNTIL_KNOWN, Gap, Why
from unique_users.aggregation.counts import Estimate
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.messages.counts import encode_count, encode_gaps, encode_removed, key_of
from unique_users.messages.generations import continued, current, new_generation
from unique_users.messages.merged_counts import PublishedBucket, merged_buckets

AT = 1_767_268_800  # 2026-01-01T12:00:00Z
OLD, NEW, LATER = "20260101T120000Z-aaaaaaaa", "20260301T120000Z-bbbbbbbb", "20260501T120000Z-bbbbbbbb"
MINUTE = Bucket("minute", 1_468_244_340)
DAY = Bucket("day", 1_468_195_200)


def test_a_generation_is_named_by_the_time_and_the_start_of_the_topics_id() -> None:
    assert new_generation(AT, "8c6f7a3e-0000-4000-8000-000000000001") == "20260101T120000Z-8c6f7a3e"
    assert new_generation(AT, "") == "20260101T120000Z-"


def test_a_clock_that_was_set_back_makes_no_older_generation() -> None:
    assert new_generation(AT, "bbbbbbbbbb", ["", "-cccccccc", OLD]) == "20260101T120001Z-bbbbbbbb"
    assert new_generation(AT + 60, "bbbbbbbbbb", [OLD]) == "20260101T120100Z-bbbbbbbb"


def test_a_state_from_before_there_were_generations_names_its_topic() -> None:
    assert continued("", "8c6f7a3e-0000") == "-8c6f7a3e"
    assert continued("", "") == ""
    assert continued(NEW, "8c6f7a3e-0000") == NEW


@pytest.mark.parametrize(
    ("found", "counts"),
    [
        ([(0, ""), (1, "")], [(0, ""), (1, "")]),
        ([(0, OLD), (1, OLD), (0, NEW)], [(0, NEW)]),
        ([(0, NEW), (1, LATER)], [(0, NEW), (1, LATER)]),
        # of the version before: of the topic that a state of that version goes on with, otherwise of an older one
        ([(0, ""), (1, ""), (0, NEW)], [(0, NEW)]),
        ([(0, ""), (1, "-bbbbbbbb"), (0, NEW)], [(0, ""), (1, "-bbbbbbbb"), (0, NEW)]),
        ([(0, ""), (0, "-aaaaaaaa")], [(0, ""), (0, "-aaaaaaaa")]),
        ([(0, ""), (0, "-aaaaaaaa"), (0, NEW)], [(0, NEW)]),
        # topics without ids
        ([(0, ""), (1, ""), (1, "20260101T120000Z-"), (1, "20260201T120000Z-")], [(0, ""), (1, "20260201T120000Z-")]),
    ],
)
def test_all_counts_of_the_newest_topic_count(found: list[tuple[int, str]], counts: list[tuple[int, str]]) -> None:
    assert current(found) == set(counts)
    assert current(reversed(found)) == set(counts)


def record(
    users: int | Estimate, generation: str = "", *why: Why, bucket: Bucket = MINUTE, partition: int = 0
) -> tuple[bytes, bytes | None]:
    return encode_count(bucket, partition, users, Calendar(), generation=generation, why=why)


def read(*records: tuple[bytes, bytes | None]) -> dict[Bucket, PublishedBucket]:
    return merged_buckets([value for _, value in records], [key for key, _ in records])


def test_the_counts_of_topics_that_were_made_again_are_not_mixed_with_the_old_ones() -> None:
    old = [record(3_000, OLD, partition=0), record(2_804, OLD, partition=1)]
    assert read(*old, record(500, NEW)) == {MINUTE: PublishedBucket(500)}
    assert read(record(3_000), record(500, NEW)) == {MINUTE: PublishedBucket(500)}
    assert read(record(500, NEW), record(9_000, OLD)) == {MINUTE: PublishedBucket(500)}, "one of the old topic woke up"


def test_a_state_that_was_lost_and_counted_again_goes_on_with_the_larger_count_and_its_own_mark() -> None:
    whole, again = record(7_500, NEW), record(5_000, LATER, Why.STATE_LOST)
    assert read(whole, again) == read(again, whole) == {MINUTE: PublishedBucket(7_500, ("state_lost",))}
    assert read(again) == {MINUTE: PublishedBucket(5_000, ("state_lost",))}


def test_a_bucket_is_whole_if_the_last_record_of_each_partition_says_so() -> None:
    late, deleted = Why.FILLED_LATE, Why.RECORDS_DELETED
    both = [record(3, NEW, late, partition=0), record(4, NEW, late, deleted, partition=1)]
    assert read(*both) == {MINUTE: PublishedBucket(7, ("filled_late", "records_deleted"))}
    assert read(record(3, NEW, late), record(3, NEW)) == {MINUTE: PublishedBucket(3)}


def test_a_tombstone_takes_back_what_was_read_of_its_key_before() -> None:
    tombstone = (key_of(MINUTE, 0), None)
    assert read(record(11_000, NEW), tombstone) == {}
    assert read(record(11_000, NEW), record(5, NEW, partition=1), tombstone) == {MINUTE: PublishedBucket(5)}
    assert read(record(11_000, NEW), tombstone, record(4_000, NEW)) == {MINUTE: PublishedBucket(4_000)}
    assert read((b"\xff:of another:program", None), (b"", None), record(1)) == {MINUTE: PublishedBucket(1)}


def test_a_partition_without_a_count_of_a_bucket_may_lack_it_by_its_gaps() -> None:
    gap = Gap("", MINUTE.start - 600, MINUTE.start + 30, Why.RECORDS_DELETED)
    of_other = encode_gaps(1, [gap, Gap("month", 0, UNTIL_KNOWN, Why.FILLED_LATE)], NEW)
    later = Bucket("minute", MINUTE.start + 60)
    counts = [record(3, NEW), record(5, NEW, bucket=later), record(4, NEW, bucket=DAY)]
    deleted = ("records_deleted",)
    assert read(*counts, of_other) == {
        DAY: PublishedBucket(4, deleted), MINUTE: PublishedBucket(3, deleted), later: PublishedBucket(5)
    }  # fmt: skip
    assert read(*counts, of_other, record(2, NEW, partition=1))[MINUTE] == PublishedBucket(5), "its own count says so"
    assert read(*counts, encode_gaps(1, [gap], OLD))[MINUTE] == PublishedBucket(3), "of the topic before"
    assert read(*counts, of_other, encode_gaps(1, [], NEW))[MINUTE] == PublishedBucket(3)
    unknown = json.dumps({"partition": 1, "gaps": [{"interval": "", "start": 0, "why": "new"}], "generation": NEW})
    assert read(*counts, (of_other[0], unknown.encode()))[MINUTE] == PublishedBucket(3)
    assert merged_buckets([*(value for _, value in counts), of_other[1]])[MINUTE] == PublishedBucket(3), "without keys"


def test_what_a_partition_has_removed_marks_what_others_still_have() -> None:
    def removed(end: int, generation: str = NEW) -> tuple[bytes, bytes | None]:
        return encode_removed(1, [Gap("minute", 0, end, Why.COUNT_REMOVED)], generation)

    end, left = MINUTE.start + 60, PublishedBucket(3, ("count_removed",))
    counts = [record(3, NEW), record(4, NEW, bucket=DAY)]
    assert read(*counts, removed(end)) == {DAY: PublishedBucket(4), MINUTE: left}
    assert read(*counts, removed(MINUTE.start))[MINUTE] == PublishedBucket(3), "not that far"
    assert read(*counts, removed(end), removed(MINUTE.start))[MINUTE] == left, "in another partition an older one lies"
    assert read(*counts, removed(end), encode_gaps(1, [], NEW))[MINUTE] == left, "the gaps do not say it"
    assert read(*counts, removed(end), record(2, NEW, partition=1))[MINUTE] == PublishedBucket(5), "it has one again"
    assert read(*counts, removed(end, OLD))[MINUTE] == PublishedBucket(3), "of the topic before"


@pytest.mark.parametrize("swapped", [False, True])
def test_the_state_that_began_last_decides_whether_a_count_is_an_estimate(*, swapped: bool) -> None:
    exact, estimate = 11_000, Estimate(10_950, 10_800, 11_100)
    before, after = (estimate, exact) if swapped else (exact, estimate)
    records = [record(before, NEW, bucket=DAY), record(after, LATER, bucket=DAY)]
    assert read(*records) == read(*reversed(records)) == {DAY: PublishedBucket(after)}
    of_one = [record(before, NEW, bucket=DAY), record(after, NEW, bucket=DAY)]
    assert read(*of_one) == {DAY: PublishedBucket(after)}, "in one generation the later record"


def test_a_whole_count_of_a_state_from_before_has_the_bytes_that_it_had() -> None:
    assert json.loads(record(1_480)[1] or b"") == {
        "interval": "minute",
        "start": "2016-07-11T13:39:00Z",
        "timestamp": 1_468_244_340,
        "partition": 0,
        "unique_users": 1_480,
    }
    assert json.loads(record(1, NEW, Why.FILLED_LATE)[1] or b"").items() >= {
        "generation": NEW, "whole": False
    }.items()  # fmt: skip
