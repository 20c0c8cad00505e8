"""Counts that a former state has published, where records were deleted before any state had counted them."""

from pathlib import Path

import pytest
from fake_counter import MINUTE, Counter, settle
from fakes import FakeKafka, FakeStop

from unique_users.aggregation.completeness import Why
from unique_users.event_time.buckets import Bucket


@pytest.mark.parametrize("partitions", [1, 2])
def test_a_count_that_lacks_what_nobody_read_is_marked_though_a_former_state_published_it(
    kafka: FakeKafka, stop: FakeStop, tmp_path: Path, partitions: int
) -> None:
    """a counted, published | b c come | state and topic's start lost | a later minute"""
    kafka.create("bucketed", partitions)
    counter = Counter(kafka, tmp_path / "first", stop)
    counter.step()
    counter.put("a")
    settle(counter)
    counter.crash()
    for uid in "bc":
        counter.put(uid)
    kafka.trim("bucketed", 0, 3)
    counter.put("d", MINUTE + 86_400)
    successor = Counter(kafka, tmp_path / "second", stop)
    successor.clock.advance(1)
    settle(successor)
    found = successor.read_published()[Bucket("minute", MINUTE)]
    assert (found.total, found.why) == (1, (Why.RECORDS_DELETED,))
    successor.crash()


def test_a_count_that_was_read_to_its_end_stays_whole_when_the_state_is_lost(
    kafka: FakeKafka, stop: FakeStop, tmp_path: Path
) -> None:
    """a b counted, published, committed | state and topic's start lost | a later minute"""
    counter = Counter(kafka, tmp_path / "first", stop)
    counter.step()
    for uid in "ab":
        counter.put(uid)
    settle(counter)
    counter.crash()
    kafka.trim("bucketed", 0, 2)
    counter.put("d", MINUTE + 86_400)
    successor = Counter(kafka, tmp_path / "second", stop)
    successor.clock.advance(1)
    settle(successor)
    found = successor.read_published()[Bucket("minute", MINUTE)]
    assert (found.total, found.why) == (2, ())
    successor.crash()
