"""Where a consumer reads, and what it has committed."""

from collections.abc import Callable

import pytest
from contract_systems import Member, Names, System, poll_until, send
from patience import LIMIT_SECONDS

from unique_users.clients.protocols import Position, Seen
from unique_users.errors import BrokerAwayError


def test_a_partition_taken_delivers_nothing_until_it_is_started(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    send(system, topic, b"0", b"1")
    member = Member(system, topic, unique_name("group"), starts=False)
    poll_until(lambda: member.owned == {0}, member)
    for _ in range(10):
        member.poll()
    assert member.rows == {}
    member.consumer.seek(0, 0)
    poll_until(lambda: len(member.values()) == 2, member)
    assert member.offsets() == [0, 1]


def test_reading_starts_in_the_middle_where_told(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    send(system, topic, *[b"%d" % n for n in range(10)])
    member = Member(system, topic, unique_name("group"), starts=False)
    poll_until(lambda: member.owned == {0}, member)
    member.consumer.seek(0, 7)
    assert member.consumer.position(0) == 7
    poll_until(lambda: len(member.values()) == 3, member)
    assert member.rows[0][0][0] == 7
    assert member.values() == [b"7", b"8", b"9"]


def test_start_goes_back_in_a_partition_that_is_read(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    send(system, topic, b"0", b"1", b"2")
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: len(member.values()) == 3, member)
    member.consumer.seek(0, 1)
    poll_until(lambda: len(member.values()) == 5, member)
    send(system, topic, b"3")
    poll_until(lambda: len(member.values()) == 6, member)
    assert member.offsets() == [0, 1, 2, 1, 2, 3]


def test_starting_a_partition_of_another_member_changes_nothing(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    send(system, topic, b"0")
    group = unique_name("group")
    owner = Member(system, topic, group)
    poll_until(lambda: owner.values() == [b"0"], owner)
    other = system.consumer(topic, group)
    other.seek(0, 0)
    for _ in range(5):
        assert other.poll(0.1).batches == []
    with pytest.raises(BrokerAwayError):
        other.position(0)


def test_the_end_of_a_partition_is_the_position_of_a_reader_that_caught_up(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    send(system, topic, b"0", b"1")
    member = Member(system, topic, unique_name("group"), starts=False)
    poll_until(lambda: member.owned == {0}, member)
    member.consumer.seek(0, 0)
    assert member.consumer.watermark_offsets([0]) == {0: (0, 2)}
    assert member.consumer.position(0) == 0
    poll_until(lambda: len(member.values()) == 2, member)
    assert member.consumer.position(0) == 2
    send(system, topic, b"2")
    assert member.consumer.watermark_offsets([0]) == {0: (0, 3)}


def test_bounds_tell_the_first_offset_that_retention_left(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(partitions=2)
    send(system, topic, b"0", b"1", b"2", partition=1)
    system.trim(topic, 1, 2)
    consumer = system.consumer(topic, unique_name("group"))
    assert consumer.watermark_offsets([0, 1]) == {0: (0, 0), 1: (2, 3)}
    assert consumer.high_watermark_offsets([0, 1]) == {0: 0, 1: 3}
    assert consumer.watermark_offsets([]) == {}
    assert consumer.high_watermark_offsets([]) == {}


def test_a_partition_is_read_on_from_its_first_record_when_the_wanted_one_was_deleted(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    send(system, topic, b"0", b"1", b"2")
    system.trim(topic, 0, 2)
    member = Member(system, topic, unique_name("group"), starts=False)
    poll_until(lambda: member.owned == {0}, member)
    member.consumer.seek(0, 0)
    poll_until(lambda: len(member.values()) == 1, member)
    assert member.offsets() == [2]


def test_a_commit_keeps_the_offset_and_its_metadata(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(partitions=2)
    group = unique_name("group")
    member = Member(system, topic, group)
    poll_until(lambda: member.owned == {0, 1}, member)
    assert member.consumer.committed([0, 1]) == {}
    metadata = "clock1:" + "x" * 3_993
    assert member.consumer.commit({0: Position(7, metadata)})
    assert member.consumer.committed([0, 1]) == {0: Position(7, metadata)}
    assert member.consumer.commit({0: Position(5), 1: Position(1, "ü")})
    assert member.consumer.committed([0, 1]) == {0: Position(5, ""), 1: Position(1, "ü")}
    assert member.consumer.committed([1]) == {1: Position(1, "ü")}
    assert member.consumer.committed([]) == {}
    assert system.consumer(topic, unique_name("other")).committed([0, 1]) == {}


def test_nothing_is_committed_unless_asked_and_a_new_member_reads_it_again(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    send(system, topic, b"0", b"1", b"2")
    group = unique_name("group")
    first = Member(system, topic, group)
    poll_until(lambda: len(first.values()) == 3, first)
    assert first.consumer.committed([0]) == {}
    first.consumer.close()
    second = Member(system, topic, group)
    poll_until(lambda: len(second.values()) == 3, second)
    assert second.consumer.commit({0: Position(1)})
    second.consumer.close()
    third = Member(system, topic, group)
    poll_until(lambda: len(third.values()) == 2, third)
    assert third.values() == [b"1", b"2"]
    assert third.consumer.committed([0]) == {0: Position(1)}


def test_the_first_record_of_a_time_is_found_and_the_end_where_there_is_none(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(2)
    for value in (b"0", b"1", b"2"):
        send(system, topic, value, partition=0)
    lookup = system.record_lookup(topic)
    times = [record.timestamp_ms for n in range(3) if (record := lookup.record_at(0, n, LIMIT_SECONDS))]
    consumer = system.consumer(topic, unique_name("group"))
    for at in times:
        assert consumer.offsets_at([0, 1], at) == {0: times.index(at), 1: 0}
    assert consumer.offsets_at([0], 0) == {0: 0}
    assert consumer.offsets_at([0], times[-1] + 1) == {0: 3}
    assert consumer.offsets_at([], 0) == {}


def test_how_far_is_read_and_how_far_it_goes_is_known_without_asking(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    send(system, topic, b"0", b"1")
    member = Member(system, topic, unique_name("group"))
    assert member.consumer.seen([0]) == {}
    poll_until(lambda: len(member.values()) == 2, member)
    poll_until(lambda: member.consumer.seen([0, 1]) == {0: Seen(2, 2)}, member)
