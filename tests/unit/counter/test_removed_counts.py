"""Each partition removes its own old counts: what is left of a bucket in the others is marked, at every moment."""

from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from fake_counter import MINUTE, Counter, settle
from fakes import FakeKafka, FakeStop
from msgspec.structs import replace

from unique_users.event_time.buckets import Bucket
from unique_users.messages.counts import key_of
from unique_users.messages.merged_counts import PublishedBucket, ReadCounts

DAY = 86_400
LATER = MINUTE + 20 * DAY
M, FIVE = Bucket("minute", MINUTE), Bucket("5 minutes", MINUTE - MINUTE % 300)
KEEP = {"minute": 10, "5 minutes": 10}
RULES: dict[str, Any] = {"intervals": ["minute", "5 minutes"], "publish_keep_days": KEEP, "partition_by": "uid"}
WHOLE, LEFT = PublishedBucket(2, ()), PublishedBucket(1, ("count_removed",))


@pytest.fixture
def counter(kafka: FakeKafka, stop: FakeStop, tmp_path: Path) -> Iterator[Counter]:
    """A counter of two partitions, and `counts` with three."""
    kafka.create("bucketed", 2)
    kafka.create("counts", 3)
    counter = Counter(kafka, tmp_path / "state", stop, **RULES)
    counter.step()
    yield counter
    counter.crash()


def count_both(counter: Counter) -> None:
    """One user in each partition at MINUTE, and two others 20 days later."""
    counter.put("a", partition=0)
    counter.put("b", partition=1)
    counter.bucketers_are_at(MINUTE)
    settle(counter)
    counter.put("c", LATER, 0)
    counter.put("d", LATER, 1)


def wait(counter: Counter) -> None:
    """Until it looks for old counts the next time."""
    counter.clock.advance(1_000)
    settle(counter)
    settle(counter)


def only_the_first_removes(counter: Counter) -> None:
    """Have the second partition look for old counts a day later."""
    each = counter.counting.partitions.open[1]
    each.facts = replace(each.facts, counts_withdrawn_until=LATER)


def ends(counter: Counter) -> list[int]:
    return [log.end for log in counter.kafka.topics["counts"].partitions]


def views(counter: Counter, since: list[int]) -> Iterator[dict[Bucket, PublishedBucket]]:
    """What readers see who have read each partition of `counts` up to wherever, from a moment on."""
    logs = [log.records for log in counter.kafka.topics["counts"].partitions]
    for upto in product(*(range(start, len(log) + 1) for start, log in zip(since, logs, strict=True))):
        read = ReadCounts()
        for log, end in zip(logs, upto, strict=True):
            for record in log[:end]:
                read.add(record.key, record.value)
        yield read.merged()


def assert_marked(counter: Counter, since: list[int]) -> None:
    """Everybody sees both users, or one with the mark, or nothing."""
    for view in views(counter, since):
        for bucket in (M, FIVE):
            assert view.get(bucket) in {WHOLE, LEFT, None}


def test_what_another_partition_has_not_removed_yet_is_marked(counter: Counter) -> None:
    """0: |a ... 20 days ... c| removes a's   1: |b ... d| keeps b's until the next day | both are gone"""
    count_both(counter)
    settle(counter)
    since = ends(counter)
    assert counter.read_published()[M] == counter.read_published()[FIVE] == WHOLE
    only_the_first_removes(counter)
    counter.bucketers_are_at(LATER)
    settle(counter)
    wait(counter)
    published = counter.read_published()
    assert published[M] == published[FIVE] == LEFT
    assert published[Bucket("minute", LATER)] == WHOLE
    counter.put("e", LATER + 2 * DAY, 0)
    counter.put("f", LATER + 2 * DAY, 1)
    counter.bucketers_are_at(LATER + 2 * DAY)
    settle(counter)
    wait(counter)
    assert {M, FIVE}.isdisjoint(counter.read_published())
    assert_marked(counter, since)


def test_what_stays_from_before_an_upgrade_is_marked_once_one_state_is_lost(counter: Counter, tmp_path: Path) -> None:
    """An older version kept a's and b's | the state of 0 is lost and built anew: it removes a's, b's stays for good"""
    count_both(counter)
    counter.bucketers_are_at(LATER)
    for each in counter.counting.partitions.open.values():
        each.facts = replace(each.facts, counts_kept_before=None, counts_withdrawn_until=0)
    settle(counter)
    wait(counter)
    since = ends(counter)
    assert counter.read_published()[M] == counter.read_published()[FIVE] == WHOLE
    counter.crash()
    for file in (tmp_path / "state").rglob("bucketed-0.*"):
        file.unlink()
    counter.start()
    for _ in range(4):
        wait(counter)
    published = counter.read_published()
    assert published[M] == published[FIVE] == LEFT
    assert published[Bucket("minute", LATER)] == WHOLE
    assert_marked(counter, since)


@pytest.mark.parametrize("crash_after", range(8))
def test_a_crash_at_any_moment_leaves_nothing_unmarked(counter: Counter, crash_after: int) -> None:
    count_both(counter)
    settle(counter)
    since = ends(counter)
    only_the_first_removes(counter)
    counter.bucketers_are_at(LATER)
    settle(counter)
    counter.clock.advance(1_000)
    counter.kafka.refuse_after = crash_after
    counter.step(3)
    counter.crash()
    counter.kafka.refuse_after = None
    counter.start()
    settle(counter)
    only_the_first_removes(counter)
    for _ in range(3):
        wait(counter)
    assert counter.read_published().get(M) in {LEFT, None}
    assert_marked(counter, since)


def test_another_counter_with_an_older_state_takes_no_mark_back(counter: Counter, tmp_path: Path) -> None:
    """Two machines: the first removed a's | CRASH | the second, without a state, counts everything again"""
    count_both(counter)
    settle(counter)
    since = ends(counter)
    only_the_first_removes(counter)
    counter.bucketers_are_at(LATER)
    settle(counter)
    wait(counter)
    assert counter.read_published()[M] == LEFT
    counter.crash()
    second = Counter(counter.kafka, tmp_path / "other", **RULES)
    for _ in range(3):
        settle(second)
    assert second.read_published().get(M) in {LEFT, None}
    second.crash()
    assert_marked(counter, since)


def test_the_topic_says_what_leaves_it_before_anything_does(counter: Counter) -> None:
    """In each partition of `counts` alone."""
    count_both(counter)
    counter.bucketers_are_at(LATER)
    settle(counter)
    wait(counter)
    logs = counter.kafka.topics["counts"].partitions
    removed = [record for log in logs for record in log.records if record.value is None]
    assert {record.key for record in removed} == {key_of(bucket, n) for bucket in (M, FIVE) for n in (0, 1)}
    for log in logs:
        found = [(record.key or b"", record.value) for record in log.records]
        keys = [key for key, value in found if value is None or key.startswith(b"removed:")]
        for number in (b"0", b"1"):
            of_one = [key for key in keys if key.endswith(b":" + number)]
            assert of_one[0] == b"removed:" + number
        assert all(before != after for before, after in pairwise(keys))


def test_a_recreated_topic_is_told_again(counter: Counter) -> None:
    count_both(counter)
    counter.bucketers_are_at(LATER)
    settle(counter)
    wait(counter)
    counter.kafka.create("counts", 3)
    counter.topics.recreations += 1
    settle(counter)
    told = [record.key for log in counter.kafka.topics["counts"].partitions for record in log.records]
    assert told.count(b"removed:0") == told.count(b"removed:1") == 3
