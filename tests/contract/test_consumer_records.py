"""Records as a consumer delivers them: in order, in columns, damaged or too large to unpack."""

import time
from collections.abc import Callable

import pytest
from brokers import config_for
from contract_systems import (
    MIB,
    FakeSystem,
    KafkaPythonSystem,
    Member,
    Names,
    System,
    poll_until,
    polled_from_start,
    send,
)
from patience import LIMIT_SECONDS, until

from unique_users.clients import connect
from unique_users.clients.protocols import Consumer, Headers, Position
from unique_users.config.schema import Topic
from unique_users.errors import TopicError


def test_records_come_in_order_as_columns_of_equal_length(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    before = int(time.time() * 1000)
    producer = system.producer()
    producer.send(topic, b"a", b"k")
    producer.send(topic, b"")
    producer.send(topic, b"c", b"")
    assert producer.flush(LIMIT_SECONDS)
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: len(member.values()) == 3, member)
    assert [row[:3] for row in member.rows[0]] == [(0, b"k", b"a"), (1, None, b""), (2, b"", b"c")]
    if not isinstance(system, FakeSystem):
        assert all(before - 1000 <= at <= time.time() * 1000 + 1000 for _, _, _, at in member.rows[0])
    else:
        assert all(at == system.kafka.clock.wall() * 1000 for _, _, _, at in member.rows[0])


def test_a_batch_knows_the_position_after_it(system: System, new_topic: Callable[..., str], unique_name: Names) -> None:
    topic = new_topic()
    send(system, topic, b"0", b"1", b"2")
    consumer = system.consumer(topic, unique_name("group"))
    read = 0

    def has_read_all() -> bool:
        nonlocal read
        for batch in polled_from_start(consumer):
            read += len(batch.offsets)
            assert batch.partition == 0
            assert batch.next_offset == read == consumer.position(0)
        return read >= 3

    until(has_read_all, lambda: f"3 records, {read} came", every=0)
    assert read == 3


def test_a_poll_brings_some_of_many_records_and_not_all(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(**{"compression.type": "lz4"})  # so one fetch holds all of them
    producer = system.producer()
    for _ in range(20):
        producer.send_all(topic, [bytes(1_000)] * 1_000)
    assert producer.flush(LIMIT_SECONDS)
    consumer = system.consumer(topic, unique_name("group"))
    sizes: list[int] = []

    def have_come() -> bool:
        sizes.extend(len(batch.offsets) for batch in polled_from_start(consumer))
        return sum(sizes) >= 20_000

    until(have_come, lambda: f"20,000 records, {sum(sizes)} came", every=0)
    assert sum(sizes) == 20_000
    assert max(sizes) <= 5_000 + 1_050, "the bound, and a batch of a megabyte more"


def test_a_record_without_a_value_comes_as_none(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    if isinstance(system, FakeSystem):
        system.kafka.append(topic, None, key=b"k")
    else:
        assert isinstance(system, KafkaPythonSystem)
        system.send_nothing(topic, b"k")
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: bool(member.rows), member)
    assert member.rows[0][0][:3] == (0, b"k", None)


@pytest.mark.parametrize("count", [1, 1_500])
def test_a_batch_that_unpacks_to_too_much_is_passed_and_named(
    system: System, new_topic: Callable[..., str], unique_name: Names, count: int
) -> None:
    """records before │ so many that unpack to 400 MB │ after │ one that unpacks to 400 MB, the last"""
    topic = new_topic(**{"max.message.bytes": 8 * MIB})
    send(system, topic, b"before")
    system.send_unreadable(topic, count)
    send(system, topic, b"after")
    system.send_unreadable(topic, 1)
    consumer = system.consumer(topic, unique_name("group"))
    found: list[tuple[int, bytes | None, bool]] = []

    def have_come() -> bool:
        for batch in polled_from_start(consumer):
            assert len(batch.keys) == len(batch.values) == len(batch.timestamps_ms) == len(batch.offsets)
            rows = zip(batch.offsets, batch.values, strict=True)
            found.extend((offset, value, bool(batch.unreadable)) for offset, value in rows)
            assert consumer.position(0) >= batch.next_offset
        return len(found) >= count + 3

    until(have_come, lambda: f"{count + 3} records, {len(found)} came", every=0)
    assert found == [
        (0, b"before", False),
        *((offset, None, True) for offset in range(1, count + 1)),
        (count + 1, b"after", False),
        (count + 2, None, True),
    ]
    assert consumer.position(0) == count + 3
    assert consumer.commit({0: Position(count + 3)})


def test_reading_may_begin_inside_a_batch_that_is_passed(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(**{"max.message.bytes": 8 * MIB})
    system.send_unreadable(topic, 100)
    send(system, topic, b"after")
    member = Member(system, topic, unique_name("group"), starts=False)
    poll_until(lambda: member.owned == {0}, member)
    member.consumer.seek(0, 60)
    poll_until(lambda: b"after" in member.values(), member)
    assert member.offsets() == list(range(60, 101))
    member.consumer.seek(0, 99)
    member.rows.clear()
    poll_until(lambda: b"after" in member.values(), member)
    assert member.offsets() == [99, 100]


def test_a_batch_with_a_wrong_checksum_is_told_with_its_topic_partition_and_offset(
    broker: str, system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    if not isinstance(system, KafkaPythonSystem):
        pytest.skip("the fake has no checksums")
    topic = new_topic()
    producer = connect.get_producer(config_for(broker))
    for value in (b"good", b"what was sent"):
        producer.send(topic, value)
        assert producer.flush(LIMIT_SECONDS)
    producer.close()
    system.damage(b"what was sent", b"what was kept")
    member = Member(system, topic, unique_name("group"))
    with pytest.raises(TopicError, match=f"{topic}-0: the batch at offset 1 is damaged, its checksum is wrong: "):
        poll_until(lambda: False, member)


def test_headers_arrive_as_they_were_sent(system: System, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    producer = system.producer()
    producer.send(topic, b"v", headers=[("reason", b"late"), ("detail", "ü\0".encode()), ("reason", b"")])
    assert producer.flush(LIMIT_SECONDS)
    assert system.headers(topic) == [[("reason", b"late"), ("detail", "ü\0".encode()), ("reason", b"")]]


def test_the_headers_of_each_record_are_there_when_they_are_asked_for(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    """value      a             b          c                 (in one batch, or a few)   …
    headers   none   two of one name    one without a value                             100 of them
    """
    topic = new_topic()
    twice: Headers = [("name", b"1"), ("name", b"2" * 200), ("ü", b"")]
    many: Headers = [(f"name-{n}", b"%d" % n * n) for n in range(100)]
    sent: list[tuple[bytes, Headers]] = [(b"a", []), (b"b" * 9_000, twice), (b"c", [("null", None)]), (b"d", many)]
    producer = system.producer()
    for value, headers in sent:
        producer.send(topic, value, b"key", headers)
        producer.send_all(topic, [b"between"])
    assert producer.flush(LIMIT_SECONDS)
    if type(system) is KafkaPythonSystem:
        sent[2] = (b"c", [("null", b"")])
    expected = [pair for value, headers in sent for pair in ((value, [*headers]), (b"between", []))]
    consumer = system.consumer(topic, unique_name("group"))
    assert read_with_headers(consumer, len(expected)) == expected
    consumer.seek(0, 3)
    assert read_with_headers(consumer, len(expected) - 3) == expected[3:], "also from the middle of a batch"


def read_with_headers(consumer: Consumer, count: int) -> list[tuple[bytes | None, list[tuple[str, bytes | None]]]]:
    """The next values with their headers."""
    found: list[tuple[bytes | None, list[tuple[str, bytes | None]]]] = []

    def have_come() -> bool:
        for batch in polled_from_start(consumer):
            found.extend((value, [*batch.headers(place)]) for place, value in enumerate(batch.values))
        return len(found) >= count

    until(have_come, lambda: f"{count} records, {len(found)} came", every=0)
    return found


def test_headers_whose_names_are_not_utf_8_do_no_harm(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    if isinstance(system, FakeSystem):
        pytest.skip("the fake has no names but strings")
    assert isinstance(system, KafkaPythonSystem)
    topic = new_topic()
    system.send_bad_header(topic, b"v")
    consumer = system.consumer(topic, unique_name("group"))
    ((value, headers),) = read_with_headers(consumer, 1)
    assert value == b"v"
    assert [*headers] in ([], [("\ufffd", b"x")])


def test_a_record_has_the_time_that_it_is_sent_with(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    hour_ago = int(time.time() * 1000) - 3_600_000
    producer = system.producer()
    producer.send(topic, b"v", timestamp_ms=hour_ago)
    producer.send(topic, b"w", headers=[("a", b"b")], timestamp_ms=hour_ago + 1)
    assert producer.flush(LIMIT_SECONDS)
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: len(member.values()) == 2, member)
    assert [at for *_, at in member.rows[0]] == [hour_ago, hour_ago + 1]


def test_for_kafka_python_records_that_come_one_by_one_are_gathered_for_one_poll(
    broker: str, unique_name: Names
) -> None:
    config = config_for(broker, kafka={"fetch_max_wait_ms": 3_000})  # longer than ours, to see it
    topic, sent = unique_name("topic"), [b"a", b"b", b"c"]
    admin, producer = connect.get_admin(config), connect.get_producer(config)
    admin.create(Topic(name=topic, partitions=1))
    consumer = connect.get_consumer(config, topic, unique_name("group"), fewer_fetches=True)
    for partition in until(lambda: consumer.poll(0.1).assigned, "its partition", every=0):
        consumer.seek(partition, 0)
    assert not consumer.poll(0.5).batches, "now the broker is asked for records"
    for value in sent:
        producer.send(topic, value)
        assert producer.flush(LIMIT_SECONDS)
    batches = until(lambda: consumer.poll(0.1).batches, "the records", every=0)
    assert [value for batch in batches for value in batch.values] == sent
    consumer.close()
    producer.close()
    admin.delete([topic])
    admin.close()
