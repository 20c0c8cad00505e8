"""Counts that were withdrawn with their interval, and are published again."""

from pathlib import Path

import msgspec
from fake_counter import MINUTE, Counter
from fakes import FakeKafka

from unique_users.event_time.buckets import Bucket

WIDE = Bucket("5 minutes", MINUTE - MINUTE % 300)


def start_with(counter: Counter, *intervals: str) -> None:
    counter.crash()
    changed = msgspec.structs.replace(counter.config.counter, intervals=["minute", *intervals])
    counter.config = msgspec.structs.replace(counter.config, counter=changed)
    counter.start()


def test_a_count_that_is_published_again_and_dropped_survives_a_crash(kafka: FakeKafka, tmp_path: Path) -> None:
    """5 minutes: published | not counted | counted again: published, dropped in the same save | crash"""
    counter = Counter(kafka, tmp_path / "state", intervals=["minute", "5 minutes"], retention_seconds=600)
    counter.drop = ["5 minutes"]
    counter.put("a")
    for _ in range(3):
        counter.clock.advance(1)
        counter.step()
    start_with(counter)
    counter.step()
    start_with(counter, "5 minutes")
    counter.bucketers_are_at(MINUTE + 86_400)
    for _ in range(3):
        counter.clock.advance(1)
        counter.step()
        counter.crash()
        counter.start()
    for _ in range(4):
        counter.clock.advance(1)
        counter.step()
    assert counter.held() == {}
    assert counter.all_published()[WIDE] == 1
    counter.crash()
