"""Counts that a counter publishes and withdraws are what every client reads."""

from collections.abc import Callable

from contract_systems import System
from patience import LIMIT_SECONDS

from unique_users.aggregation.completeness import Gap, Why
from unique_users.counter.counts_topic import Due, Publisher
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.messages.merged_counts import PublishedBucket, ReadCounts, every_bucket
from unique_users.queries.every_count import EveryCount
from unique_users.queries.whole_topic import WholeTopic

OLD, NEW, DAY = Bucket("minute", 60), Bucket("minute", 864_000), Bucket("day", 0)


def all_counts(system: System, topic: str, wanted: Callable[[Bucket], bool] = every_bucket) -> ReadCounts:
    every = EveryCount(system.reader(topic), wanted)
    while not every.caught_up:
        every.step()
    return every.counts


def test_a_count_that_was_withdrawn_is_not_read_any_more(system: System, new_topic: Callable[..., str]) -> None:
    topic = new_topic(**{"cleanup.policy": "compact"})
    publisher = Publisher(system.producer(), topic, Calendar(), "nowhere")
    assert publisher.publish(0, Due({OLD: 1, NEW: 2, DAY: 3}, generation="20260101T000000Z-12345678"), LIMIT_SECONDS)
    assert publisher.publish(0, Due({}, withdrawn=[OLD]), LIMIT_SECONDS)
    publisher.close()
    read = all_counts(system, topic)
    assert read.merged() == {NEW: PublishedBucket(2), DAY: PublishedBucket(3)}
    assert read.of_partition(0) == [NEW, DAY]
    assert read.of_partition(1) == []
    minutes = all_counts(system, topic, lambda bucket: bucket.interval == "minute")
    assert minutes.of_partition(0) == [NEW]


def test_what_another_partition_still_has_is_marked(system: System, new_topic: Callable[..., str]) -> None:
    """The reason lies in each partition of the topic, before any tombstone is sent."""
    topic = new_topic(3, **{"cleanup.policy": "compact"})
    publisher = Publisher(system.producer(), topic, Calendar(), "nowhere")
    generation = "20260101T000000Z-12345678"
    for partition in (0, 1):
        assert publisher.publish(partition, Due({OLD: 1, DAY: 3}, generation=generation), LIMIT_SECONDS)
    removed = (Gap("minute", 0, 600, Why.COUNT_REMOVED),)
    assert publisher.publish(0, Due({}, generation=generation, removed=removed), LIMIT_SECONDS)
    assert publisher.publish(0, Due({}, withdrawn=[OLD]), LIMIT_SECONDS)
    publisher.close()
    ends = [end for _, end in WholeTopic(system.reader(topic)).watermark_offsets().values()]
    assert sum(ends) == 4 + 3 + 1
    assert min(ends) >= 1
    read = all_counts(system, topic)
    assert read.merged() == {DAY: PublishedBucket(6), OLD: PublishedBucket(1, ("count_removed",))}
    assert read.removed(0, generation) == removed
    assert read.removed(1, generation) == ()
