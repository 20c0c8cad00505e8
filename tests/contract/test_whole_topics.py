"""A whole topic is read from where its reader is told, and the broker keeps nothing of it."""

import threading
from collections.abc import Callable

import pytest
from contract_systems import Names, System, send
from patience import until

from unique_users.errors import BrokerAwayError
from unique_users.queries.whole_topic import WholeTopic


def values_of(reader: WholeTopic, count: int) -> list[tuple[int, bytes | None]]:
    """Poll until so many values have come."""
    found: list[tuple[int, bytes | None]] = []

    def have_come() -> bool:
        for batch in reader.poll(0.1):
            found.extend((batch.partition, value) for value in batch.values)
        return len(found) >= count

    until(have_come, lambda: f"{count} values, not only {found}", every=0)
    return sorted(found)


def test_a_reader_starts_at_any_offset_and_again_at_another(system: System, new_topic: Callable[..., str]) -> None:
    topic = new_topic(partitions=2)
    for partition in (0, 1):
        send(system, topic, b"0", b"1", b"2", partition=partition)
    system.trim(topic, 1, 1)
    reader = WholeTopic(system.reader(topic))
    assert reader.watermark_offsets() == {0: (0, 3), 1: (1, 3)}
    reader.start({0: 2, 1: 1})
    assert values_of(reader, 3) == [(0, b"2"), (1, b"1"), (1, b"2")]
    assert reader.positions([0, 1]) == {0: 3, 1: 3}
    assert reader.is_at({0: 3, 1: 3})
    assert not reader.is_at({0: 4})
    send(system, topic, b"3", partition=0)
    assert values_of(reader, 1) == [(0, b"3")]
    reader.start({0: 3, 1: 3})
    assert values_of(reader, 1) == [(0, b"3")], "it is read from there on as often as it is started"


def test_a_time_names_the_first_record_from_then_on_or_the_end(system: System, new_topic: Callable[..., str]) -> None:
    topic = new_topic(partitions=2)
    send(system, topic, b"0", b"1", partition=0)
    reader = WholeTopic(system.reader(topic))
    reader.start({0: 0, 1: 0})
    first = until(lambda: reader.poll(0.1), "a record", every=0)[0].timestamps_ms[0]
    assert reader.offsets_at(first) == {0: 0, 1: 0}
    assert reader.offsets_at(first - 86_400_000) == {0: 0, 1: 0}
    assert reader.offsets_at(first + 86_400_000) == {0: 2, 1: 0}


def test_a_missing_topic_or_a_silent_broker_is_away(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    with pytest.raises(BrokerAwayError):
        system.reader(unique_name("missing"))
    reader = WholeTopic(system.reader(new_topic()))
    system.go_away()
    with pytest.raises(BrokerAwayError):
        reader.watermark_offsets()
    assert reader.poll(0.1) == []


def test_many_partitions_start_at_once_and_again(system: System, new_topic: Callable[..., str]) -> None:
    topic = new_topic(partitions=12)
    for partition in range(12):
        send(system, topic, b"0", b"1", partition=partition)
    reader = WholeTopic(system.reader(topic))
    reader.start(dict.fromkeys(range(12), 1))
    assert values_of(reader, 12) == [(partition, b"1") for partition in range(12)]
    reader.start(dict.fromkeys(range(12), 0))
    assert values_of(reader, 24) == [(partition, value) for partition in range(12) for value in (b"0", b"1")]


def test_a_reader_that_waits_for_its_topic_leaves_no_threads_behind(system: System, unique_name: Names) -> None:
    missing, before = unique_name("missing"), threading.active_count()
    for _ in range(3):
        with pytest.raises(BrokerAwayError):
            system.reader(missing)
    until(lambda: threading.active_count() <= before, lambda: f"the end of some of {threading.enumerate()}")
