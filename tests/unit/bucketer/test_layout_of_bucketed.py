"""Which partition of `bucketed` a record goes to, and what is refused once that would change."""

import json

import pytest
from fake_bucketer import Feed
from fakes import FakeKafka, FakePartition

from unique_users.errors import TopicError
from unique_users.messages.offset_metadata import OffsetMetadata
from unique_users.messages.partitioning import partition_of


@pytest.mark.parametrize("combine", [False, True])
def test_by_uid_all_records_of_a_user_stand_in_one_partition_under_the_key_of_their_minute(
    kafka: FakeKafka,
    combine: bool,  # noqa: FBT001
) -> None:
    kafka.create("bucketed", partitions=3)
    feed = Feed(kafka, partition_by="uid", combine=combine)
    for number in range(30):
        feed.put(f"u{number % 10}", 1_468_244_384 + number % 2 * 60)
    feed.finish()
    for partition in range(3):
        records = kafka.records("bucketed", partition)
        assert {record.key for record in records} <= {b"1468244340", b"1468244400"}
        users = [json.loads(record.value or b"") for record in records]
        found = {uid for user in users for uid in user.get("uids", [user.get("uid")])}
        assert found == {f"u{number}" for number in range(10) if partition_of(f"u{number}", 3) == partition}


def grow(kafka: FakeKafka, topic: str, partitions: int) -> None:
    while len(kafka.topics[topic].partitions) < partitions:
        kafka.topics[topic].partitions.append(FakePartition())


@pytest.mark.parametrize("partition_by", ["bucket", "uid"])
def test_bucketed_that_grows_while_it_is_written_is_refused_and_nothing_more_is_committed(
    kafka: FakeKafka, partition_by: str
) -> None:
    feed = Feed(kafka, partition_by=partition_by)
    feed.put("a")
    feed.step(2)
    assert feed.bucketing.commit()
    grow(kafka, "bucketed", 2)
    feed.put("b")
    feed.step()
    with pytest.raises(TopicError, match=r"over 1 partitions, now it is to be .* over 2 partitions"):
        feed.bucketing.commit()
    assert kafka.group("bucketer", "feed").committed[0].offset == 1


def test_a_bucketer_that_first_gets_a_new_partition_of_feed_writes_nothing_by_a_new_layout(kafka: FakeKafka) -> None:
    first = Feed(kafka)
    first.put("a")
    first.step(2)
    assert first.bucketing.commit()
    grow(kafka, "feed", 2)
    grow(kafka, "bucketed", 2)
    second = Feed(kafka)
    second.put("b", partition=1)
    with pytest.raises(TopicError, match=r"over 1 partitions, now it is to be .* over 2 partitions"):
        second.step(3)
    assert second.consumer.owned == {1}
    assert second.bucketed() == ["a"]


def test_records_written_after_bucketed_grew_stand_where_they_would_have_before(kafka: FakeKafka) -> None:
    """What is written until the growth is noticed must not mislead a counter that counts the topic later."""
    kafka.create("bucketed", partitions=2)
    feed = Feed(kafka)
    minutes = [1_468_244_340 + 60 * number for number in range(20)]
    for _ in range(2):
        for minute in minutes:
            feed.put("a", minute)
        feed.step(2)
        grow(kafka, "bucketed", 4)
    with pytest.raises(TopicError):
        feed.bucketing.commit()
    keys = [sorted(record.key or b"" for record in kafka.records("bucketed", p)) for p in range(4)]
    assert len(set(keys[0] + keys[1])) == len(minutes)
    assert keys[2:] == [[], []]
    assert not set(keys[0]) & set(keys[1])


def test_a_layout_that_changed_is_refused_also_while_nothing_is_acknowledged(
    kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with records for a partition that is gone."""
    feed = Feed(kafka)
    feed.put("a")
    feed.step(2)
    monkeypatch.setattr(feed.producers[-1], "flush", lambda _seconds: False)
    grow(kafka, "bucketed", 2)
    with pytest.raises(TopicError, match="Create a new topic"):
        feed.bucketing.commit()


def test_bucketed_that_grew_while_no_bucketer_ran_is_refused_by_the_next_one(kafka: FakeKafka) -> None:
    feed = Feed(kafka, partition_by="uid")
    feed.put("a")
    feed.finish()
    grow(kafka, "bucketed", 4)
    feed.start()
    with pytest.raises(TopicError, match="Create a new topic"):
        feed.step(2)


@pytest.mark.parametrize(("partitions", "refused"), [(1, False), (2, True)])
def test_another_partition_by_is_refused_where_it_would_move_users(
    kafka: FakeKafka,
    partitions: int,
    refused: bool,  # noqa: FBT001
) -> None:
    kafka.create("bucketed", partitions=partitions)
    feed = Feed(kafka)
    feed.put("a")
    feed.finish()
    again = Feed(kafka, partition_by="uid")
    if refused:
        with pytest.raises(TopicError, match="by bucket over 2 partitions, now it is to be by uid over 2 partitions"):
            again.step(2)
    else:
        again.step(2)


def test_another_topic_of_the_same_name_may_have_another_layout(kafka: FakeKafka) -> None:
    feed = Feed(kafka)
    feed.put("a")
    feed.finish()
    kafka.delete("bucketed")
    kafka.create("bucketed", partitions=4)
    again = Feed(kafka, partition_by="uid")
    again.put("b")
    again.finish()
    assert len(kafka.values("bucketed")) == 1


def test_a_commit_without_a_layout_as_older_versions_wrote_it_is_gone_on_from(kafka: FakeKafka) -> None:
    feed = Feed(kafka)
    feed.put("a")
    feed.finish()
    committed = kafka.group("bucketer", "feed").committed
    committed[0] = committed[0]._replace(metadata=" ".join(committed[0].metadata.split(" ")[:2]))
    feed.put("b")
    feed.start()
    feed.finish()
    assert [json.loads(value or b"")["uid"] for value in kafka.values("bucketed")] == ["a", "b"]
    layout = OffsetMetadata.parsed(committed[0].metadata).layout
    assert layout is not None
    assert layout[1:] == (feed.config.bucketer.partition_by, 1)
