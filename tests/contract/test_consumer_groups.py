"""Members of a group: who owns which partition, when they come, leave, or are taken for dead."""

import time
from collections.abc import Callable

import pytest
from brokers import config_for
from contract_systems import Member, Names, System, poll_until, send
from patience import until

from unique_users.clients import connect
from unique_users.clients.protocols import Position
from unique_users.config.schema import Topic
from unique_users.errors import BrokerError


def test_a_member_gets_its_partitions_however_short_its_polls_are(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    for _ in range(3):
        consumer = system.consumer(topic, unique_name("group"))
        # A poll that ends while the group is being joined is followed by others.
        until(lambda: consumer.poll(0.005).assigned, "its partitions", every=0)  # noqa: B023
        consumer.close()


def test_a_member_gets_its_partitions_however_long_it_does_not_poll(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    consumer = system.consumer(topic, unique_name("group"))
    # Joining the group goes on while nobody asks for it.
    until(lambda: consumer.poll(0).assigned, "its partition")


def test_two_consumers_share_the_partitions_and_the_one_that_stays_takes_over(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(partitions=4)
    group = unique_name("group")
    send(system, topic, b"old", partition=0)
    first = Member(system, topic, group)
    poll_until(lambda: first.owned == {0, 1, 2, 3}, first)
    second = Member(system, topic, group)
    poll_until(lambda: len(first.owned) == len(second.owned) == 2, first, second)
    assert first.owned | second.owned == {0, 1, 2, 3}
    assert set(first.revoked) == second.owned
    assert second.revoked == []
    for partition in range(4):
        send(system, topic, b"new", partition=partition)
    poll_until(lambda: sum(b"new" in m.values(p) for m in (first, second) for p in range(4)) == 4, first, second)
    assert {p for p in range(4) if b"new" in second.values(p)} == second.owned
    second.consumer.close()
    poll_until(lambda: first.owned == {0, 1, 2, 3}, first)


def test_partitions_that_stay_are_neither_lost_nor_taken_again(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(partitions=2)
    group = unique_name("group")
    for partition in range(2):
        send(system, topic, b"x", partition=partition)
    first = Member(system, topic, group)
    poll_until(lambda: len(first.rows) == 2, first)
    second = Member(system, topic, group)
    poll_until(lambda: len(first.owned) == len(second.owned) == 1, first, second)
    (kept,) = first.owned
    assert first.revoked == [1 - kept]
    assert first.offsets(kept) == [0]


def test_a_member_taken_for_dead_is_refused_its_commit_told_and_let_in_again(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    group = unique_name("group")
    send(system, topic, b"0")
    member = Member(system, topic, group)
    poll_until(lambda: member.values() == [b"0"], member)
    system.evict(member.consumer)
    assert member.consumer.commit({0: Position(1)}) is False
    poll_until(lambda: member.revoked == [0], member)
    poll_until(lambda: len(member.values()) == 2, member)
    assert member.offsets() == [0, 0]
    assert member.consumer.commit({0: Position(1)})


def test_a_consumer_that_is_closed_lets_a_new_member_in_at_once(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    group = unique_name("group")
    for _ in range(4):
        member = Member(system, topic, group)
        poll_until(lambda member=member: member.owned == {0}, member)  # type: ignore[misc]  # no session ran out
        member.consumer.close()


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_a_static_member_comes_back_to_its_partitions_and_the_others_are_not_disturbed(
    broker: str, client: str, unique_name: Names
) -> None:
    """A and B have one partition each │ A ends and starts again: B loses and takes nothing, A has what it had."""
    topic, group = unique_name("topic"), unique_name("group")

    def member(instance: str) -> StaticMember:
        return StaticMember(broker, client, topic, group, instance)

    admin = connect.get_admin(config_for(broker))
    admin.create(Topic(name=topic, partitions=2))
    first, other = member("a"), member("b")
    poll_until(lambda: len(first.owned) == len(other.owned) == 1, first, other)
    owned, changes = first.owned, other.changes
    first.consumer.close()
    again = member("a")
    poll_until(lambda: again.owned == owned, again, other)
    settled = time.monotonic() + 2
    poll_until(lambda: time.monotonic() > settled, again, other)
    assert other.changes == changes
    twin = member("a")
    with pytest.raises(BrokerError, match="group_instance_id of this one"):
        poll_until(lambda: not again.consumer.commit({min(owned): Position(0)}), twin, again)
    for consumer in (again.consumer, other.consumer, twin.consumer):
        consumer.close()
    admin.delete([topic])
    admin.close()


class StaticMember:
    """A consumer with a name that outlives it. `changes` is how often its partitions were others."""

    def __init__(self, broker: str, client: str, topic: str, group: str, instance: str) -> None:
        kafka = {"group_instance_id": instance, "heartbeat_interval_ms": 200, "session_timeout_ms": 20_000}
        self.consumer = connect.get_consumer(config_for(broker, client=client, kafka=kafka), topic, group)
        self.owned: frozenset[int] = frozenset()
        self.changes = 0

    def poll(self) -> None:
        polled = self.consumer.poll(0.1)
        self.changes += bool(polled.revoked or polled.assigned)
        self.owned = (self.owned - polled.revoked) | polled.assigned
        for partition in polled.assigned:
            self.consumer.seek(partition, 0)
