"""The published counts are followed from near the end of the topic, and are what all of it says."""

import pytest
from fakes import FakeConsumer, FakeKafka

from unique_users.aggregation.completeness import Gap, Why
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.messages.counts import encode_count, encode_gaps, encode_removed
from unique_users.messages.merged_counts import merged_buckets
from unique_users.queries import published
from unique_users.queries.published import BucketRange, PublishedCounts, RangeError

GENERATION = "20260101T120000Z-8c6f7a3e"
FUTURE_SECONDS = 3_600


class Topic:
    """Publishes counts as counters do; every record has the Kafka time of the fake clock."""

    def __init__(self, kafka: FakeKafka, partitions: int = 1) -> None:
        self.kafka = kafka
        kafka.create("of-counts", partitions)
        self.readers: list[FakeConsumer] = []

    def publish(self, start: int, users: int, partition: int = 0, interval: str = "minute", **rest: object) -> None:
        bucket = Bucket(interval, start)
        key, value = encode_count(bucket, partition, users, Calendar(), generation=GENERATION, **rest)  # type: ignore[arg-type]
        self.kafka.append("of-counts", value, key=key, partition=partition)

    def minutes(self, count: int, publications: int = 1) -> int:
        """Let so many minutes pass, each with a count. Returns the start of the last one."""
        for _ in range(count):
            start = int(self.kafka.clock.wall()) // 60 * 60
            for users in range(1, publications + 1):
                self.publish(start, users)
            self.kafka.clock.advance(60)
        return start

    def follow(self, *intervals: str) -> PublishedCounts:
        def new_reader() -> FakeConsumer:
            self.readers.append(FakeConsumer(self.kafka, "of-counts", None, alone=True))
            return self.readers[-1]

        return PublishedCounts(new_reader, intervals or ("minute",), FUTURE_SECONDS, self.kafka.clock.wall)

    def whole(self) -> dict[Bucket, object]:
        logs = self.kafka.topics["of-counts"].partitions
        records = [record for log in logs for record in log.records]
        return dict(merged_buckets([r.value for r in records], [r.key for r in records]))


@pytest.fixture
def topic(kafka: FakeKafka) -> Topic:
    return Topic(kafka)


def settled(counts: PublishedCounts) -> PublishedCounts:
    for _ in range(200):
        counts.step(0)
        if counts.complete:
            return counts
    pytest.fail("never complete")


def read(counts: PublishedCounts, asked: BucketRange) -> dict[Bucket, object]:
    found: list[dict[Bucket, object]] = []
    counts.read(asked, lambda counts: found.append(dict(counts)))
    for _ in range(200):
        counts.step(0)
        if found:
            return found[0]
    pytest.fail("never answered")


def test_the_newest_counts_are_there_first_and_the_window_is_exact(topic: Topic) -> None:
    last = topic.minutes(3_000, publications=2)
    counts = topic.follow()
    counts.step(0)
    assert counts.newest("minute") == last
    assert not counts.complete
    assert not counts.provisional(BucketRange("minute", 0, last - 3_600)), "only the tail has been read"
    settled(counts)
    asked = BucketRange("minute", last - published.WINDOW_SECONDS, last + 60)
    whole = topic.whole()
    assert counts.held(asked) == {bucket: whole[bucket] for bucket in whole if asked.holds(bucket)}
    assert counts.held(asked._replace(start=asked.start - 60)) is None


def test_reading_never_begins_at_the_start_of_a_long_topic(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    seek = FakeConsumer.seek

    def noted(reader: FakeConsumer, partition: int, offset: int) -> None:
        begun.append(offset)
        seek(reader, partition, offset)

    monkeypatch.setattr(FakeConsumer, "seek", noted)
    topic.minutes(5_000)
    settled(topic.follow())
    ahead = (FUTURE_SECONDS + 3_600) // 60
    assert begun == [5_000 - 10, 5_000 - 1 - published.WINDOW_SECONDS // 60 - ahead]


def test_a_late_count_of_an_old_minute_changes_the_window(topic: Topic) -> None:
    last = topic.minutes(100)
    counts = settled(topic.follow())
    counts.step(0)
    topic.publish(last - 3_600, 7, at_end=1)
    assert counts.step(0) == {Bucket("minute", last - 3_600)}
    (found,) = counts.merged([Bucket("minute", last - 3_600)]).values()
    assert (found.total, found.at_end) == (7, 1)


def test_an_older_range_is_read_from_its_own_start(topic: Topic) -> None:
    last = topic.minutes(6_000)
    counts = settled(topic.follow())
    asked = BucketRange("minute", last - 5_000 * 60, last - 4_900 * 60)
    assert counts.held(asked) is None
    whole = topic.whole()
    assert read(counts, asked) == {bucket: whole[bucket] for bucket in whole if asked.holds(bucket)}
    assert counts.held(BucketRange("minute", last - 60, last + 60)), "the window is as it was"
    topic.publish(last - 4_950 * 60, 9)
    counts.step(0)


def test_a_range_up_to_now_includes_what_is_published_while_it_is_read(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "SLICE_SECONDS", 0)  # one poll in each step
    last = topic.minutes(3_000)
    counts = settled(topic.follow())
    topic.kafka.records_per_poll = 500
    found: list[dict[Bucket, object]] = []
    asked = BucketRange("minute", last - 2_900 * 60, last + 60)
    counts.read(asked, lambda counts: found.append(dict(counts)))
    counts.step(0)
    assert not found
    topic.publish(last, 55)
    while not found:
        counts.step(0)
    assert found[0] == {bucket: of for bucket, of in topic.whole().items() if asked.holds(bucket)}


def test_wide_buckets_are_held_from_their_own_start_once_asked_for(topic: Topic) -> None:
    begin = int(topic.kafka.clock.wall())
    week = Calendar().start("week", begin)
    topic.kafka.clock.advance(week + 7 * 86_400 - begin)
    week += 7 * 86_400
    for day in range(6):
        topic.publish(week, 10 * (day + 1), interval="week")
        topic.publish(int(topic.kafka.clock.wall()) // 60 * 60, 1)
        topic.kafka.clock.advance(86_400)
    counts = settled(topic.follow("minute", "week"))
    asked = BucketRange("week", week - 7 * 86_400, week + 7 * 86_400)
    assert counts.held(asked) is None, "its records began before the window"
    (found,) = read(counts, asked).values()
    assert found.total == 60  # type: ignore[attr-defined]
    assert counts.held(asked) is not None
    topic.publish(week, 70, interval="week")
    counts.step(0)
    (held,) = (counts.held(asked) or {}).values()
    assert held.total == 70


def test_partitions_add_up_and_marks_reach_every_bucket_they_concern(kafka: FakeKafka) -> None:
    topic = Topic(kafka, partitions=2)
    last = topic.minutes(200)
    topic.publish(last, 5, partition=1)
    gap = Gap("", last - 600, last - 300, Why.RECORDS_DELETED)
    key, value = encode_gaps(1, [gap], GENERATION)
    kafka.append("of-counts", value, key=key, partition=1)
    key, value = encode_removed(1, [Gap("minute", 0, last - 900, Why.COUNT_REMOVED)], GENERATION)
    kafka.append("of-counts", value, key=key, partition=1)
    topic.publish(last - 60, 3, partition=1, why=[Why.STATE_LOST])
    counts = settled(topic.follow())
    asked = BucketRange("minute", 0, last + 60)
    assert counts.provisional(asked) == topic.whole()
    assert {why for found in counts.provisional(asked).values() for why in found.why} == {
        "count_removed",
        "records_deleted",
        "state_lost",
    }


def test_memory_is_bounded_by_forgetting_the_oldest(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "PARTS_MAX", 100)
    last = topic.minutes(400)
    counts = settled(topic.follow())
    assert counts._window["minute"].counts.parts <= 100
    assert counts.held(BucketRange("minute", last - 300 * 60, last)) is None, "what is forgotten is not held"
    assert len(counts.held(BucketRange("minute", counts.since("minute"), last + 60)) or {}) > 50


def test_a_deleted_count_is_gone(topic: Topic) -> None:
    last = topic.minutes(10)
    counts = settled(topic.follow())
    topic.kafka.append("of-counts", None, key=b"minute:%d:0" % last)
    assert counts.step(0) == {Bucket("minute", last)}
    assert counts.merged([Bucket("minute", last)]) == {}


def test_too_long_a_range_and_too_many_are_refused(topic: Topic) -> None:
    last = topic.minutes(10)
    counts = settled(topic.follow())
    with pytest.raises(RangeError, match="at most 20,000 buckets"):
        counts.read(BucketRange("minute", last - 20_001 * 60, last + 60), lambda _: None)
    for _ in range(published.RANGES_WAITING_MAX):
        counts.read(BucketRange("minute", 0, 60), lambda _: None)
    with pytest.raises(RangeError, match="too many"):
        counts.read(BucketRange("minute", 0, 60), lambda _: None)


def test_an_empty_topic_is_complete_and_says_so(topic: Topic) -> None:
    counts = settled(topic.follow())
    assert counts.newest("minute") is None
    topic.minutes(1)
    counts.step(0)
    assert counts.newest("minute") is not None
