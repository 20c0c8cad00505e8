"""A lookup gives the record at an offset, and no other."""

from collections.abc import Callable

import pytest
from contract_systems import Member, Names, System, poll_until, send
from patience import LIMIT_SECONDS

from unique_users.clients.protocols import StoredRecord
from unique_users.errors import BrokerAwayError


def test_a_lookup_gives_the_record_at_an_offset_and_no_other(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    """offsets   trimmed: 0 1 │ kept: 2 3 4 │ to come: 5"""
    topic = new_topic(partitions=2)
    producer = system.producer()
    for value in (b"0", b"1", b"2", b"", b"4"):
        producer.send(topic, value, b"k" if value else None, partition=1)  # in one batch, or a few
    assert producer.flush(LIMIT_SECONDS)
    system.trim(topic, 1, 2)
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: len(member.values(1)) == 3, member)
    lookup = system.record_lookup(topic)
    for _ in range(2):
        for row in member.rows[1]:
            record = lookup.record_at(1, row[0], LIMIT_SECONDS)
            assert record is not None
            assert record.leader_epoch >= 0
            assert record == StoredRecord(row[0], record.leader_epoch, *row[1:])
            assert {record.leader_epoch} == member.leader_epochs
        for missing in (0, 1, 5, 6, 1_000):
            assert lookup.record_at(1, missing, LIMIT_SECONDS) is None
        assert lookup.record_at(0, 0, LIMIT_SECONDS) is None
    send(system, topic, b"5", partition=1)
    later = lookup.record_at(1, 5, LIMIT_SECONDS)
    assert later is not None
    assert later.value == b"5"
    system.trim(topic, 1, 4)
    assert lookup.record_at(1, 3, LIMIT_SECONDS) is None, "it was there, and was asked for, a moment ago"


def test_a_lookup_in_a_topic_that_is_missing_or_a_broker_that_is_silent_raises_broker_away_error(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    send(system, topic, b"0")
    with pytest.raises(BrokerAwayError):
        system.record_lookup(unique_name("missing")).record_at(0, 0, 0.5)
    lookup = system.record_lookup(topic)
    assert lookup.record_at(0, 0, LIMIT_SECONDS) is not None
    system.go_away()
    with pytest.raises(BrokerAwayError):
        lookup.record_at(0, 0, 0.5)
