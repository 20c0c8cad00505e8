from typing import Any

import pytest
from brokers import config_for
from msgspec.structs import replace

from unique_users.clients.topic_settings import as_created, change, notes, rebuild_seconds, retention_ms
from unique_users.config.schema import Broker, Config, Topics

DAY, HOUR = 86_400, 3_600
NOW = 1_800_000_000  # 2027-01-15T08:00:00Z
MINUTE_NEEDS = 60 + DAY + HOUR


def config(*intervals: str, **bucketer: int) -> Config:
    return config_for("fake:1", counter={"intervals": list(intervals or ["minute"])}, bucketer=bucketer)


def said(config: Config, topic: str, **settings: Any) -> list[str]:
    """What the reader of a topic with these settings is told; `_` stands for a dot."""
    reads = getattr(config.topics, topic)
    given = {name.replace("_", "."): str(value) for name, value in settings.items()}
    return list(notes(config, reads, {topic: given}, NOW))


@pytest.mark.parametrize(
    ("intervals", "days"),
    [(["minute"], 7), (["minute", "day"], 7), (["week"], 10), (["minute", "month"], 34), (["year", "hour"], 369)],
)
def test_bucketed_is_made_to_keep_what_the_longest_interval_needs(intervals: list[str], days: int) -> None:
    assert retention_ms(config(*intervals)) == days * DAY * 1000


def test_lateness_adds_to_it_and_without_a_bound_on_it_bucketed_is_kept_forever() -> None:
    assert rebuild_seconds(config()) == MINUTE_NEEDS
    assert retention_ms(config(allowed_lateness_seconds=30 * DAY)) == 32 * DAY * 1000
    assert retention_ms(config(allowed_lateness_seconds=0)) == -1


def test_a_retention_that_is_configured_wins_and_other_defaults_stay() -> None:
    bucketed, counts = {"retention.ms": 5, "segment.ms": 9}, {"min.insync.replicas": 2, "segment.ms": 9}
    given = config_for("fake:1", topics={"bucketed": {"settings": bucketed}, "counts": {"settings": counts}})
    assert as_created(given, given.topics.bucketed) == given.topics.bucketed
    assert as_created(given, given.topics.feed) == given.topics.feed
    assert as_created(given, given.topics.counts).settings == {"cleanup.policy": "compact", **counts}
    plain = config("year")
    assert as_created(plain, plain.topics.bucketed).settings == {"retention.ms": 369 * DAY * 1000}


def test_every_topic_is_made_with_a_bound_of_its_own() -> None:
    given = config_for("fake:1", topics={"metrics": {"name": "metrics"}})
    topics = [as_created(given, getattr(given.topics, name)) for name in Topics.__struct_fields__]
    bounds = {topic.name: topic.settings.get("retention.ms", topic.settings.get("cleanup.policy")) for topic in topics}
    days = {name: bound if isinstance(bound, str) else int(bound or 0) // DAY // 1000 for name, bound in bounds.items()}
    assert days == {"feed": 7, "bucketed": 7, "counts": "compact", "rejected": 30, "metrics": 30}


def test_a_bucketed_that_keeps_enough_or_everything_is_not_mentioned() -> None:
    assert not said(config(), "bucketed", retention_ms=MINUTE_NEEDS * 1000, retention_bytes=-1)
    assert not said(config("year"), "bucketed", retention_ms=-1, retention_bytes=-1)
    assert not said(config(allowed_lateness_seconds=0), "bucketed", retention_ms=-1)


def test_a_bucketed_that_keeps_less_is_said_with_when_a_rebuild_would_be_whole_and_the_way_out() -> None:
    (line,) = said(config("month"), "bucketed", retention_ms=7 * DAY * 1000, retention_bytes=-1)
    assert (
        "'bucketed' keeps 7 days (retention.ms=604800000), and counting anew without the state takes 32.1 days" in line
    )
    assert "buckets that begin after 2027-01-08T09:00:00Z would be whole; back the state up" in line
    assert line.endswith("--entity-name bucketed --add-config retention.ms=2937600000`")
    (line,) = said(config(allowed_lateness_seconds=0), "bucketed", retention_ms=7 * DAY * 1000)
    assert "takes every record" in line
    assert "retention.ms=-1" in line


@pytest.mark.parametrize("milliseconds", [0, 1, 10_000])
def test_a_bucketed_that_forgets_at_once_is_said_to_lose_what_is_not_counted(milliseconds: int) -> None:
    (line,) = said(config(), "bucketed", retention_ms=milliseconds)
    assert "what is not counted by then is lost" in line
    assert "begin after 2027-01-15T0" in line


def test_bytes_are_said_to_bound_too() -> None:
    (line,) = said(config(), "bucketed", retention_ms=-1, retention_bytes=1_000)
    assert "keeps at most 1,000 bytes a partition (retention.bytes=1000)" in line
    assert "as far back as these bytes reach" in line
    assert line.endswith("--add-config retention.bytes=-1`")
    (line,) = said(config(), "bucketed", retention_ms=HOUR * 1000, retention_bytes=1_000)
    assert "keeps 1 h (retention.ms=3600000) and at most 1,000 bytes" in line
    assert line.endswith("--add-config retention.ms=604800000,retention.bytes=-1`")


def test_a_feed_that_keeps_less_than_a_day_is_said_to_lose_frames() -> None:
    assert not said(config("year"), "feed", retention_ms=DAY * 1000)
    (line,) = said(config("year"), "feed", retention_ms=HOUR * 1000)
    assert "'feed' keeps 1 h (retention.ms=3600000): frames that are not read by then are lost" in line
    (line,) = said(config(), "feed", retention_ms=-1, retention_bytes=10)
    assert "at most 10 bytes" in line


def test_counts_that_are_deleted_are_said_and_compacted_ones_or_those_kept_forever_are_not() -> None:
    given = config()

    def about(**settings: object) -> list[str]:
        counts = {name.replace("_", "."): str(value) for name, value in settings.items()}
        return list(notes(given, given.topics.bucketed, {"counts": counts}, NOW))

    (line,) = about(cleanup_policy="delete", retention_ms=7 * DAY * 1000)
    assert "'counts' has cleanup.policy=delete and keeps 7 days" in line
    assert line.endswith("--entity-name counts --add-config cleanup.policy=compact`")
    assert not about(cleanup_policy="delete", retention_ms=-1)
    assert not about(cleanup_policy="compact", retention_ms=7 * DAY * 1000)


def test_the_command_names_a_tool_that_can_change_topics_where_that_of_the_local_broker_cannot() -> None:
    assert change(config(), "feed", "a=1", "b=2") == (
        "`unique-users broker tool kafka-configs --alter --entity-type topics --entity-name feed --add-config a=1,b=2`"
    )
    old = replace(config(), broker=Broker(version="2.4.0"))
    assert change(old, "feed", "a=1").startswith(
        "`unique-users broker tool --kafka-version 4.3.1 kafka-configs --alter"
    )
