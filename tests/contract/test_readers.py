"""A reader has all partitions of a topic at once, without a group; with one it commits in its name."""

from collections.abc import Callable, Mapping

import pytest
from contract_systems import Names, System, send
from patience import until

from unique_users.clients.protocols import Consumer, Position
from unique_users.errors import BrokerAwayError


def read_to(reader: Consumer, ends: Mapping[int, int], begin: int = 0) -> dict[int, list[bytes | None]]:
    """The values of each partition from `begin` to its end."""
    found: dict[int, list[bytes | None]] = {partition: [] for partition in ends}
    begun: set[int] = set()

    def is_at_the_end() -> bool:
        polled = reader.poll(0.1)
        for partition in polled.assigned:
            reader.seek(partition, begin)
            begun.add(partition)
        for batch in polled.batches:
            found[batch.partition] += batch.values
        return begun == ends.keys() and all(reader.position(partition) >= end for partition, end in ends.items())

    until(is_at_the_end, lambda: f"the end of each partition, not only {found}", every=0)
    return found


def test_a_reader_reads_all_partitions_to_their_ends(system: System, new_topic: Callable[..., str]) -> None:
    topic = new_topic(partitions=3)
    send(system, topic, b"0", b"1", b"2", partition=0)
    send(system, topic, b"3", partition=2)
    reader = system.reader(topic)
    ends = reader.high_watermark_offsets(range(3))
    assert ends == {0: 3, 1: 0, 2: 1}
    assert read_to(reader, ends) == {0: [b"0", b"1", b"2"], 1: [], 2: [b"3"]}


def test_a_reader_begins_where_it_is_told_and_several_read_the_same(
    system: System, new_topic: Callable[..., str]
) -> None:
    topic = new_topic()
    send(system, topic, *[b"%d" % number for number in range(1_000)])
    for reader in (system.reader(topic), system.reader(topic)):
        (values,) = read_to(reader, {0: 1_000}, begin=990).values()
        assert values == [b"%d" % number for number in range(990, 1_000)]


def test_a_reader_with_a_group_commits_in_its_name_and_another_finds_that(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic, group = new_topic(partitions=2), unique_name("group")
    send(system, topic, b"0", b"1", partition=1)
    first = system.reader(topic, group)
    assert first.committed([0, 1]) == {}
    assert first.commit({1: Position(2, "a note")})
    first.close()
    second = system.reader(topic, group)
    assert second.committed([0, 1]) == {1: Position(2, "a note")}
    assert second.commit({0: Position(0), 1: Position(2, "another")})
    assert second.committed([0, 1]) == {0: Position(0), 1: Position(2, "another")}


def test_a_reader_of_a_missing_topic_is_told(system: System, unique_name: Names) -> None:
    with pytest.raises(BrokerAwayError):
        system.reader(unique_name("missing"))
