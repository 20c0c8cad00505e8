"""The thread that reads, on a fake broker: what it tells, and what it does when topics go and come."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from brokers import config_for
from fakes import FakeAdmin, FakeConsumer, FakeKafka
from patience import until

from unique_users.dashboard import follower as module
from unique_users.dashboard.follower import Follower, Update
from unique_users.dashboard.health import Kind
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.messages.counts import encode_count
from unique_users.queries.published import BucketRange, RangeError

MINUTE = 1_468_244_340


class Told:
    """What a follower has told."""

    def __init__(self, kafka: FakeKafka) -> None:
        self.updates: list[Update] = []
        self.follower = Follower(
            config_for("fake:1"),
            lambda: FakeConsumer(kafka, "counts", None, alone=True),
            lambda: FakeAdmin(kafka),
            self.updates.append,
        )

    def until(self, condition: Callable[[], Any]) -> Any:
        return until(condition, lambda: self.updates[-3:], every=0.01)

    def users(self) -> dict[int, Any]:
        return {b.start: found.total for update in list(self.updates) for b, found in update.found.items()}

    def kind(self) -> Kind | None:
        return self.updates[-1].state.kind if self.updates else None


@pytest.fixture
def told(kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    for name in ("STEP_SECONDS", "RETRY_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(module, name, 0.01)
    told = Told(kafka)
    yield told
    told.follower.close()


def publish(kafka: FakeKafka, users: int) -> None:
    key, value = encode_count(Bucket("minute", MINUTE), 0, users, Calendar(), generation="a-b")
    kafka.append("counts", value, key=key)


def test_what_is_published_is_told(kafka: FakeKafka, told: Told) -> None:
    publish(kafka, 3)
    told.follower.start()
    told.until(lambda: told.users() == {MINUTE: 3} and told.updates[-1].complete)
    publish(kafka, 4)
    told.until(lambda: told.users() == {MINUTE: 4})


def test_a_range_is_answered_once_the_window_is_read(kafka: FakeKafka, told: Told) -> None:
    publish(kafka, 3)
    answers: list[Any] = []
    told.follower.ask(BucketRange("minute", MINUTE - 600, MINUTE + 60), answers.append)
    told.follower.ask(BucketRange("minute", 0, MINUTE), answers.append)
    told.follower.start()
    told.until(lambda: len(answers) == 2)
    refused, answered = sorted(answers, key=lambda answer: isinstance(answer, dict))
    assert isinstance(refused, RangeError)
    assert [found.total for found in answered.values()] == [3]


def test_a_missing_topic_is_named_and_its_coming_is_noticed(kafka: FakeKafka, told: Told) -> None:
    kafka.delete("counts")
    told.follower.start()
    told.until(lambda: told.kind() == Kind.NO_TOPIC)
    assert told.updates[-1].state.missing == ("counts",)
    kafka.create("counts")
    publish(kafka, 3)
    told.until(lambda: told.users() == {MINUTE: 3} and told.kind() != Kind.NO_TOPIC)


def test_a_topic_that_was_recreated_begins_anew(kafka: FakeKafka, told: Told) -> None:
    publish(kafka, 3)
    told.follower.start()
    told.until(lambda: told.updates and told.updates[-1].complete)
    told.until(lambda: told.follower._topic)
    kafka.delete("counts")
    kafka.create("counts")
    publish(kafka, 2)
    told.until(lambda: any(update.anew for update in list(told.updates)))
    told.until(lambda: told.users() == {MINUTE: 2})


def test_a_topic_that_has_grown_is_read_in_full(kafka: FakeKafka, told: Told) -> None:
    publish(kafka, 3)
    told.follower.start()
    told.until(lambda: told.updates and told.updates[-1].complete and told.follower._topic)
    topic = kafka.topics["counts"]
    topic.partitions.append(type(topic.partitions[0])())
    key, value = encode_count(Bucket("minute", MINUTE), 1, 4, Calendar(), generation="a-b")
    kafka.append("counts", value, key=key, partition=len(topic.partitions) - 1)
    told.until(lambda: told.users() == {MINUTE: 7})


def test_a_broker_that_is_away_is_waited_for(kafka: FakeKafka, told: Told) -> None:
    kafka.away = True
    told.follower.start()
    told.until(lambda: told.kind() == Kind.STARTING)
    kafka.away = False
    publish(kafka, 3)
    told.until(lambda: told.users() == {MINUTE: 3})
    assert told.follower.alive
