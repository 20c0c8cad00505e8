from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import Mock

import pytest
from brokers import config_for
from fakes import FakeAdmin, FakeClock, FakeConsumer, FakeKafka, FakeStop

from unique_users.clients import connect, topics
from unique_users.clients.protocols import REQUEST_BYTES_MAX, TopicState
from unique_users.clients.topic_watch import CREATE_LOOKS, UNHEARD_LOOKS, TopicWatch
from unique_users.clients.topics import (
    BATCH_BYTES_NEEDED,
    batch_bytes_max,
    current_state,
    ensure_topic,
    high_watermark_offsets_now,
    prepare_topics,
)
from unique_users.config.schema import Config, Topic
from unique_users.errors import BrokerAwayError, BrokerError, TopicError
from unique_users.runtime.repeating import Repeating


@pytest.fixture
def empty() -> FakeKafka:
    return FakeKafka()


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, kafka: FakeKafka) -> Config:
    """A configuration whose broker is the fake one."""
    monkeypatch.setattr(topics, "get_admin", lambda _config: FakeAdmin(kafka))
    return config_for("fake:1")


def test_a_missing_topic_is_made_as_configured(empty: FakeKafka) -> None:
    topic = Topic(name="feed", partitions=3, settings={"max.message.bytes": 5})
    state = ensure_topic(FakeAdmin(empty), topic)
    assert state == TopicState(empty.topics["feed"].id, 3)
    assert empty.topics["feed"].settings["max.message.bytes"] == "5"


def test_an_existing_topic_is_used_as_it_is(empty: FakeKafka) -> None:
    empty.create("feed", partitions=4)
    before = empty.topics["feed"]
    state = ensure_topic(FakeAdmin(empty), Topic(name="feed", partitions=2, settings={"cleanup.policy": "compact"}))
    assert state.partitions == 4
    assert empty.topics["feed"] is before
    assert before.settings["cleanup.policy"] == "delete"


def test_a_topic_with_too_few_partitions_is_refused_with_what_to_do(empty: FakeKafka) -> None:
    empty.create("feed", partitions=2)
    with pytest.raises(TopicError, match=r"'feed' has 2 partitions, the configuration says 3: lower"):
        ensure_topic(FakeAdmin(empty), Topic(name="feed", partitions=3))


def test_a_topic_that_is_not_there_now_is_waited_for_as_a_broker_is(empty: FakeKafka) -> None:
    with pytest.raises(BrokerAwayError, match="'feed'"):
        current_state(FakeAdmin(empty), "feed")


def test_all_topics_are_prepared(kafka: FakeKafka, config: Config) -> None:
    kafka.topics.clear()
    names = config.topics
    admin = prepare_topics(config, [names.feed, names.bucketed, names.counts, names.rejected], FakeStop(kafka.clock))
    assert admin is not None
    assert set(kafka.topics) == {"feed", "bucketed", "counts", "rejected"}
    assert kafka.topics["counts"].settings["cleanup.policy"] == "compact"


@pytest.mark.parametrize("policy", ["compact", "compact,delete", "delete,compact"])
@pytest.mark.parametrize("name", ["feed", "bucketed", "rejected"])
def test_compacted_topics_are_refused_but_for_counts(kafka: FakeKafka, config: Config, policy: str, name: str) -> None:
    names = config.topics
    kafka.topics["counts"].settings["cleanup.policy"] = policy
    kafka.topics[name].settings["cleanup.policy"] = policy
    with pytest.raises(TopicError, match=f"topic '{name}' has cleanup.policy={policy}, .*kafka-configs"):
        prepare_topics(config, [names.feed, names.counts, names.bucketed, names.rejected], FakeStop(kafka.clock))
    kafka.topics[name].settings["cleanup.policy"] = "delete"
    assert prepare_topics(config, [names.counts, names.bucketed], FakeStop(kafka.clock)) is not None


def test_settings_that_may_not_be_read_stop_nothing_and_are_said_in_one_line(
    kafka: FakeKafka, config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_admin: FakeAdmin, _name: str) -> Mapping[str, str]:
        raise BrokerError("the broker refuses")

    monkeypatch.setattr(FakeAdmin, "settings", refuse)
    names = config.topics
    topics = [names.bucketed, names.counts]
    assert prepare_topics(config, topics, FakeStop(kafka.clock), reads=names.bucketed) is not None
    (line,) = capsys.readouterr().err.splitlines()
    assert "'bucketed', 'counts' are not checked" in line


def test_the_broker_is_waited_for_and_that_is_said_at_once_and_each_minute(
    kafka: FakeKafka,
    config: Config,
    clock: FakeClock,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connect, "why_silent", lambda *_: "it sleeps" if clock.monotonic() > 30 else None)

    class ComesBack(FakeStop):
        def wait(self, seconds: float) -> bool:
            kafka.away = clock.monotonic() < 150
            return super().wait(seconds)

    kafka.away = True
    assert prepare_topics(config, [config.topics.feed], ComesBack(clock)) is not None
    assert capsys.readouterr().err.splitlines() == [
        "waiting for a Kafka broker at fake:1: no answer from the fake broker …",
        "waiting for a Kafka broker at fake:1 for 1 min: it sleeps …",
        "waiting for a Kafka broker at fake:1 for 2 min: it sleeps …",
        "the broker answers, going on",
    ]


def test_a_stop_ends_the_wait_for_the_broker(kafka: FakeKafka, config: Config, clock: FakeClock) -> None:
    class StopsSoon(FakeStop):
        def wait(self, seconds: float) -> bool:
            self.request()
            return super().wait(seconds)

    kafka.away = True
    assert prepare_topics(config, [config.topics.feed], StopsSoon(clock)) is None


def test_the_ends_are_those_of_all_partitions(empty: FakeKafka, unique_name: Callable[[str], str]) -> None:
    empty.create("feed", partitions=3)
    empty.append("feed", b"0", b"1", partition=1)
    consumer = FakeConsumer(empty, "feed", unique_name("group"))
    assert high_watermark_offsets_now(consumer, TopicState("", 3)) == {0: 0, 1: 2, 2: 0}


def test_what_a_topic_takes_is_asked_and_too_little_is_refused(empty: FakeKafka) -> None:
    for taken, most in ((1_000_000, 1_000_000), (BATCH_BYTES_NEEDED, BATCH_BYTES_NEEDED), (1 << 30, REQUEST_BYTES_MAX)):
        empty.create("rejected", settings={"max.message.bytes": str(taken)})
        assert batch_bytes_max(FakeAdmin(empty), "rejected") == most
    empty.create("rejected", settings={"max.message.bytes": "4095"})
    with pytest.raises(TopicError, match=r"'rejected' has max\.message\.bytes=4095, .*: set it to 4096 or more"):
        batch_bytes_max(FakeAdmin(empty), "rejected")


def test_without_the_right_to_ask_a_topic_is_tried_with_the_most(empty: FakeKafka) -> None:
    assert batch_bytes_max(FakeAdmin(empty), "rejected") == REQUEST_BYTES_MAX, "it is gone"
    empty.create("rejected")
    admin = FakeAdmin(empty)
    admin.settings = Mock(side_effect=BrokerError("refused"))  # type: ignore[method-assign]
    assert batch_bytes_max(admin, "rejected") == REQUEST_BYTES_MAX
    admin.settings = Mock(return_value={})  # type: ignore[method-assign]
    assert batch_bytes_max(admin, "rejected") == REQUEST_BYTES_MAX
    admin.settings = Mock(side_effect=BrokerAwayError("away"))  # type: ignore[method-assign]
    with pytest.raises(BrokerAwayError):
        batch_bytes_max(admin, "rejected")


class Looks:
    """A watch of `feed` on a fake broker, whose looks come when told and not once a second."""

    def __init__(self, kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch, **topic: Any) -> None:
        monkeypatch.setattr(Repeating, "_run", lambda _repeating, _first_in: None)
        self.kafka = kafka
        given = config_for("fake:1", topics={"feed": {"partitions": 2, **topic}})
        self.watch = TopicWatch(FakeAdmin(kafka), given, [given.topics.feed])

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.watch._look()


def test_a_topic_that_is_gone_is_created_as_configured_once_the_loop_has_heard_of_it(
    empty: FakeKafka, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty.create("feed", partitions=2)
    looks = Looks(empty, monkeypatch)
    assert looks.watch.missing() == ()
    empty.delete("feed")
    looks.look()
    assert looks.watch.missing() == (), "a broker may not know a topic for a moment"
    looks.look(UNHEARD_LOOKS - 2)
    assert "feed" not in empty.topics, "what is in flight would come into the next one"
    assert looks.watch.missing() == ("feed",)
    looks.look()
    assert len(empty.topics["feed"].partitions) == 2
    assert looks.watch.missing() == ()
    assert looks.watch.recreated("feed") == 1
    assert looks.watch.current("feed").id == empty.topics["feed"].id
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "topic 'feed' was missing: recreated it as configured, empty"


def test_a_loop_that_waits_for_the_topic_itself_does_not_keep_it_from_being_created(
    empty: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty.create("feed", partitions=2)
    looks = Looks(empty, monkeypatch)
    assert looks.watch.missing() == ()
    empty.delete("feed")
    looks.look(UNHEARD_LOOKS)
    assert "feed" in empty.topics


def test_a_topic_is_not_created_before_it_was_missing_for_some_looks_or_while_the_broker_is_away(
    empty: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty.create("feed", partitions=2)
    looks = Looks(empty, monkeypatch)
    empty.delete("feed")
    looks.look(CREATE_LOOKS - 1)
    assert looks.watch.missing() == ("feed",)
    empty.away = True
    looks.look(10)
    empty.away = False
    assert "feed" not in empty.topics
    looks.look()
    assert "feed" in empty.topics


def test_a_topic_that_another_process_created_is_another_one_and_a_moment_of_a_broker_that_forgot_it_is_not(
    empty: FakeKafka, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty.create("feed", partitions=2)
    looks = Looks(empty, monkeypatch)
    there = empty.topics.pop("feed")
    looks.look(3)
    empty.topics["feed"] = there
    looks.look()
    assert looks.watch.recreated("feed") == 0
    empty.delete("feed")
    empty.create("feed", partitions=2)
    looks.look()
    assert looks.watch.recreated("feed") == 1
    assert not capsys.readouterr().err


def test_without_ids_a_topic_that_was_missing_is_taken_for_another_one(
    empty: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty.create("feed", partitions=2)
    empty.topics["feed"].id = ""
    looks = Looks(empty, monkeypatch)
    there = empty.topics.pop("feed")
    looks.look()
    empty.topics["feed"] = there
    looks.look()
    assert looks.watch.recreated("feed") == 1


def test_a_topic_that_cannot_be_created_is_said_once_and_tried_again(
    empty: FakeKafka, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty.create("feed", partitions=2)
    looks = Looks(empty, monkeypatch, replication=3)
    empty.delete("feed")
    looks.look(4 * CREATE_LOOKS)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("topic 'feed' is gone and cannot be created: topic 'feed' cannot be created")
    empty.create("feed", partitions=2)
    looks.look()
    assert looks.watch.recreated("feed") == 1
