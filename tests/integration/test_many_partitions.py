"""A rebalance that brings hundreds of partitions at once."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from brokers import config_for
from patience import until

from unique_users.bucketer.assigned_partitions import FeedPartitions
from unique_users.bucketer.loop import Bucketing
from unique_users.bucketer.rekey import Rekeyer
from unique_users.bucketer.reporter import Reporter
from unique_users.bucketer.writer import Writer, layout_of_bucketed
from unique_users.clients.connect import get_admin, get_consumer, get_producer, get_record_lookup
from unique_users.clients.protocols import TopicState
from unique_users.config.schema import Topic
from unique_users.messages.frame_parser import FrameParser
from unique_users.partition_log.cut_back import HistoryCheck
from unique_users.runtime.signals import Stop

PARTITIONS = 300
QUESTIONS = ("committed", "watermark_offsets", "high_watermark_offsets", "position")


class Asked:
    """A consumer that counts the questions it is asked, each of which is a request or two to the broker."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self.counts = Counter[str]()

    def __getattr__(self, name: str) -> Any:
        self.counts[name] += 1
        return getattr(self._consumer, name)


class Watch:
    """See clients.protocols.Topics: of topics that stay as they are."""

    def __init__(self, states: Mapping[str, TopicState | None]) -> None:
        self._states = states

    def current(self, name: str) -> TopicState:
        state = self._states[name]
        assert state is not None
        return state

    def missing(self) -> tuple[str, ...]:
        return ()

    def recreated(self, *_names: str) -> int:
        return 0

    def answers(self) -> tuple[float, int]:
        return 0.0, 0


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_hundreds_of_partitions_are_opened_with_a_few_questions(
    broker: str, unique_name: Callable[[str], str], client: str
) -> None:
    names = {topic: {"name": unique_name(topic)} for topic in ("feed", "bucketed", "rejected")}
    config = config_for(broker, client=client, topics=names, bucketer={"group": unique_name("group")})
    topics, admin = config.topics, get_admin(config)
    admin.create(Topic(name=topics.feed.name, partitions=PARTITIONS))
    for topic in (topics.bucketed, topics.rejected):
        admin.create(topic)
    states = {topic.name: admin.describe(topic.name) for topic in (topics.feed, topics.bucketed)}

    watch = Watch(states)
    consumer = Asked(get_consumer(config, topics.feed.name, config.bucketer.group))
    history = HistoryCheck(
        topics.feed.name, consumer, lambda: get_record_lookup(config, topics.feed.name), lambda: (0.0, 0)
    )
    partitions = FeedPartitions(config, consumer, watch, history)
    bucketing = Bucketing(
        config,
        partitions,
        Writer(config, watch, layout_of_bucketed(config, watch), lambda: get_producer(config)),
        Rekeyer(FrameParser(), 3_600),
        Reporter(config, partitions, [], time.monotonic, time.time),
        Stop(),
    )
    bucketing.open()
    frame = json.dumps({"uid": "a", "ts": int(time.time())}).encode()
    producer = get_producer(config)
    producer.send_all(topics.feed.name, [frame] * PARTITIONS, partitions=range(PARTITIONS))
    assert producer.flush(60)

    def steps_until(condition: Callable[[], bool], what: str) -> None:
        until(lambda: condition() or not bucketing.step(), what, every=0)
        assert condition()

    steps_until(lambda: len(bucketing.partitions.open) >= PARTITIONS, "all partitions")
    asked = sum(consumer.counts[question] for question in QUESTIONS)
    assert asked < 10, "a rebalance may come in two parts, and none is asked by each of its partitions"
    steps_until(lambda: sum(each.position for each in bucketing.partitions.open.values()) >= PARTITIONS, "all frames")
    bucketing.close()
    producer.close()
    admin.delete([topic["name"] for topic in names.values()])
    admin.close()
