"""Topics, their settings and ends, and a group's commits, as an admin tells them."""

from collections.abc import Callable

import pytest
from contract_systems import MIB, Member, Names, System, poll_until, send
from patience import until

from unique_users.clients.protocols import Copies, Position
from unique_users.config.schema import Topic
from unique_users.errors import BrokerAwayError, TopicError


def test_a_missing_topic_is_described_as_none(system: System, unique_name: Names) -> None:
    assert system.admin().describe(unique_name("missing")) is None


def test_the_settings_of_a_missing_topic_are_no_answer(system: System, unique_name: Names) -> None:
    with pytest.raises(BrokerAwayError):
        system.admin().settings(unique_name("missing"))


def test_a_topic_is_created_as_wanted_and_described(system: System, new_topic: Callable[..., str]) -> None:
    topic = new_topic(partitions=3, **{"cleanup.policy": "compact", "max.message.bytes": 5 * MIB})
    admin = system.admin()
    state = admin.describe(topic)
    assert state is not None
    assert state.partitions == 3
    assert state.id
    settings = admin.settings(topic)
    assert settings["cleanup.policy"] == "compact"
    assert settings["max.message.bytes"] == str(5 * MIB)
    assert settings["retention.ms"] == "604800000", "the broker's default"


def test_starts_and_ends_are_those_of_what_is_kept(system: System, new_topic: Callable[..., str]) -> None:
    topic = new_topic(partitions=2)
    send(system, topic, b"0", b"1", b"2", partition=0)
    system.trim(topic, 0, 3)
    send(system, topic, b"0", partition=1)
    admin = system.admin()
    assert (admin.starts(topic), admin.high_watermark_offsets(topic)) == ({0: 3, 1: 0}, {0: 3, 1: 1})


def test_creating_a_topic_that_exists_leaves_it_as_it_is(system: System, new_topic: Callable[..., str]) -> None:
    topic = new_topic(partitions=2)
    before = system.admin().describe(topic)
    system.admin().create(Topic(name=topic, partitions=5))
    assert system.admin().describe(topic) == before


def test_a_topic_that_the_broker_refuses_raises_topic_error(system: System, unique_name: Names) -> None:
    name = unique_name("topic")
    with pytest.raises(TopicError, match=rf"'{name}' cannot be created with \d+ partitions?, 5 replicas") as refused:
        system.admin().create(Topic(name=name, replication=5, settings={"retention.ms": 60_000}))
    assert "retention.ms=60000: the cluster has too few brokers for so many replicas" in str(refused.value)
    assert "{" not in str(refused.value)
    assert system.admin().describe(name) is None


def test_the_details_of_a_topic_are_its_copies_and_the_rights_to_it(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    details = system.admin().details(new_topic(partitions=2))
    assert details is not None
    assert details.copies == {0: Copies(1, 1), 1: Copies(1, 1)}
    assert details.rights is not None
    assert details.rights >= {"READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS"}
    assert system.admin().details(unique_name("missing")) is None


def test_the_details_of_a_group_are_its_members_and_the_rights_to_it(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic, group = new_topic(), unique_name("group")
    assert system.admin().group_details(group).members == 0
    member = Member(system, topic, group)
    poll_until(lambda: member.owned == {0}, member)
    details = system.admin().group_details(group)
    assert details.members == 1
    assert details.rights is not None
    assert "READ" in details.rights


def test_an_admin_tells_the_brokers_release_if_it_can(system: System) -> None:
    assert system.admin().version() in {"4.3", ""}


def test_a_deleted_topic_is_gone_and_one_made_again_has_another_id(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    admin = system.admin()
    before = admin.describe(topic)
    admin.delete([topic, unique_name("missing")])
    until(lambda: admin.describe(topic) is None, "the topic to be gone")
    admin.create(Topic(name=topic))
    again = admin.describe(topic)
    assert before is not None
    assert again is not None
    assert before.id != again.id


def test_lag_counts_what_the_group_has_not_committed(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(partitions=2)
    group = unique_name("group")
    send(system, topic, b"0", b"1", b"2", partition=0)
    send(system, topic, b"0", partition=1)
    member = Member(system, topic, group)
    poll_until(lambda: member.owned == {0, 1}, member)
    assert system.admin().lag(group, topic) == 4
    assert member.consumer.commit({0: Position(2)})
    assert system.admin().lag(group, topic) == 2
    assert member.consumer.commit({0: Position(3), 1: Position(1)})
    assert system.admin().lag(group, topic) == 0


def test_an_admin_tells_what_a_group_has_committed_of_a_topic(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic, other = new_topic(partitions=3), new_topic()
    group = unique_name("group")
    member, of_other = Member(system, topic, group), Member(system, other, unique_name("group"))
    poll_until(lambda: member.owned == {0, 1, 2} and of_other.owned == {0}, member, of_other)
    admin = system.admin()
    assert admin.committed(group, topic) == {}
    long = "clock1:" + "x" * 3_993
    assert member.consumer.commit({0: Position(7, long), 2: Position(0)})
    assert of_other.consumer.commit({0: Position(1)})
    assert admin.committed(group, topic) == {0: Position(7, long), 2: Position(0)}
    assert admin.committed(group, other) == admin.committed(group, unique_name("missing")) == {}
    assert admin.committed(unique_name("missing"), topic) == {}


def test_an_admin_tells_the_ends_of_a_topic(system: System, new_topic: Callable[..., str], unique_name: Names) -> None:
    topic = new_topic(partitions=3)
    send(system, topic, b"0", b"1", partition=0)
    send(system, topic, b"0", b"1", b"2", partition=2)
    system.trim(topic, 2, 2)
    admin = system.admin()
    assert admin.high_watermark_offsets(topic) == {0: 2, 1: 0, 2: 3}
    with pytest.raises(BrokerAwayError):
        admin.high_watermark_offsets(unique_name("missing"))


def test_an_admin_tells_the_time_of_the_newest_record_of_each_partition(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(partitions=3)
    for partition in (0, 2):
        send(system, topic, b"0", b"1", partition=partition)
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: len(member.values(0)) == len(member.values(2)) == 2, member)
    admin = system.admin()
    assert admin.newest_ms(topic) == {p: max(row[3] for row in member.rows[p]) for p in (0, 2)}
    with pytest.raises(BrokerAwayError):
        admin.newest_ms(unique_name("missing"))
