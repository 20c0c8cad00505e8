"""Counts that a counter publishes and withdraws are what every client reads."""

from collections.abc import Callable

from contract_systems import PATIENCE_SECONDS, Names, System

from unique_users.counter.counts_topic import Due, Publisher, read_counts
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.messages.merged_counts import PublishedBucket

OLD, NEW, DAY = Bucket("minute", 60), Bucket("minute", 864_000), Bucket("day", 0)


def test_a_count_that_was_withdrawn_is_not_read_any_more(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(**{"cleanup.policy": "compact"})
    publisher = Publisher(system.producer(), topic, Calendar(), "nowhere")
    assert publisher.publish(0, Due({OLD: 1, NEW: 2, DAY: 3}, generation="20260101T000000Z-12345678"), PATIENCE_SECONDS)
    assert publisher.publish(0, Due({}, withdrawn=[OLD]), PATIENCE_SECONDS)
    publisher.close()
    ends = {0: 4}
    read = read_counts(system.consumer(topic, unique_name("group")), ends)
    assert read.merged() == {NEW: PublishedBucket(2), DAY: PublishedBucket(3)}
    assert read.of_partition(0) == [NEW, DAY]
    assert read.of_partition(1) == []
    minutes = read_counts(system.consumer(topic, unique_name("group")), ends, lambda b: b.interval == "minute")
    assert minutes.of_partition(0) == [NEW]
