"""What a producer is given arrives in order, in the partition that its key chooses, or is told to be too large."""

import os
import time
from collections.abc import Callable

import confluent_kafka
import pytest
from brokers import config_for
from contract_systems import MIB, PROMPT_SECONDS, LibrdkafkaSystem, Member, Names, System, poll_until, send
from patience import LIMIT_SECONDS

from unique_users.clients import kafka_python
from unique_users.config.schema import Topic
from unique_users.errors import TooLargeError
from unique_users.messages.partitioning import partition_of

# From Kafka's own test of its partitioner (org.apache.kafka.common.utils.UtilsTest), as Java's signed numbers.
KAFKAS_MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def test_a_key_chooses_the_partition_that_kafkas_own_clients_choose(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(partitions=7)
    producer = system.producer()
    assert producer.partitions(topic) == 7
    for key in KAFKAS_MURMUR2:
        producer.send(topic, b"v", key)
    assert producer.flush(LIMIT_SECONDS)
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: sum(map(len, member.rows.values())) == len(KAFKAS_MURMUR2), member)
    found = {key: partition for partition, rows in member.rows.items() for _, key, _, _ in rows}
    assert found == {key: (value & 0x7FFFFFFF) % 7 for key, value in KAFKAS_MURMUR2.items()}


def test_librdkafkas_consistent_partitioner_puts_a_user_where_this_program_does(
    broker: str, unique_name: Names
) -> None:
    topic, partitions = unique_name("users"), 7
    kafka_python.make_admin(config_for(broker)).create(Topic(name=topic, partitions=partitions))
    found: dict[str, int] = {}

    def note(error: object, message: confluent_kafka.Message) -> None:
        assert error is None
        found[message.key().decode()] = message.partition()

    uids = ["123456789", "a", "user-1", "ü", "пользователь", *(f"{n * 0x9E3779B97F4A7C15:019x}" for n in range(500))]
    producer = confluent_kafka.Producer({"bootstrap.servers": broker, "partitioner": "consistent"})
    for uid in uids:
        producer.produce(topic, b"", uid.encode(), on_delivery=note)
    assert producer.flush(LIMIT_SECONDS) == 0
    assert set(found.values()) == set(range(partitions))
    assert found == {uid: partition_of(uid, partitions) for uid in uids}


def test_a_partition_given_goes_before_the_key(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(partitions=3)
    for partition in range(3):
        send(system, topic, b"%d" % partition, partition=partition, key=b"the same")
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: len(member.rows) == 3, member)
    assert {partition: member.values(partition) for partition in range(3)} == {0: [b"0"], 1: [b"1"], 2: [b"2"]}


def test_what_is_flushed_can_be_consumed(system: System, new_topic: Callable[..., str], unique_name: Names) -> None:
    topic = new_topic()
    consumer = system.consumer(topic, unique_name("group"))
    producer = system.producer()
    for _ in range(1_000):
        producer.send(topic, b"x" * 100)
    assert producer.flush(LIMIT_SECONDS) is True
    assert consumer.watermark_offsets([0]) == {0: (0, 1_000)}
    assert producer.flush(LIMIT_SECONDS) is True


def test_there_is_room_below_the_bound_and_again_when_the_broker_has_taken_some(
    system: System, new_topic: Callable[..., str]
) -> None:
    topic = new_topic()
    producer = system.producer()
    assert producer.backpressure_eased(0)
    for _ in range(40):
        producer.send(topic, bytes(MIB - 1000))
    assert producer.backpressure_eased(LIMIT_SECONDS)
    assert producer.flush(LIMIT_SECONDS)


def test_many_records_sent_at_once_come_in_order_among_single_ones(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    producer = system.producer()
    values = [b"%d" % number + bytes(number % 3 * 1000) for number in range(3_000)]
    producer.send(topic, b"first", b"key")
    producer.send_all(topic, values, [b"key"] * len(values))
    producer.send(topic, b"last", b"key", headers=[("why", b"because")])
    producer.send_all(topic, [])
    assert producer.flush(LIMIT_SECONDS)
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: len(member.values()) == len(values) + 2, member)
    assert member.values() == [b"first", *values, b"last"]
    assert {key for _, key, _, _ in member.rows[0]} == {b"key"}


def test_a_tombstone_comes_between_the_records_of_its_key(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(partitions=3)
    producer = system.producer()
    producer.send_all(topic, [b"1"] * 4, [b"a", b"b", b"c", b"d"])
    for key in (b"a", b"b", b"c", b"d"):
        producer.send(topic, None, key)
    producer.send_all(topic, [b"2"] * 4, [b"a", b"b", b"c", b"d"])
    assert producer.flush(LIMIT_SECONDS)
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: sum(map(len, member.rows.values())) == 12, member)
    values: dict[bytes | None, list[bytes | None]] = {}
    for rows in member.rows.values():
        for row in rows:
            values.setdefault(row[1], []).append(row[2])
    assert values == {key: [b"1", None, b"2"] for key in (b"a", b"b", b"c", b"d")}


def test_keys_of_many_records_choose_their_partitions_as_those_of_single_ones_do(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(partitions=7)
    producer = system.producer()
    producer.send_all(topic, [b"v"] * len(KAFKAS_MURMUR2), list(KAFKAS_MURMUR2))
    producer.send_all(topic, [b"a", b"b"])
    assert producer.flush(LIMIT_SECONDS)
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: sum(map(len, member.rows.values())) == len(KAFKAS_MURMUR2) + 2, member)
    found = {key: partition for partition, rows in member.rows.items() for _, key, _, _ in rows if key is not None}
    assert found == {key: (value & 0x7FFFFFFF) % 7 for key, value in KAFKAS_MURMUR2.items()}


def test_many_records_go_to_the_partitions_that_they_are_given_and_keep_their_keys_and_order(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(partitions=3)
    producer = system.producer()
    values = [b"%d" % number for number in range(1_000)]
    partitions = [number * number % 3 for number in range(1_000)]
    producer.send_all(topic, values, [b"key"] * 1_000, partitions)
    producer.send_all(topic, [b"without a key"], partitions=[2])
    assert producer.flush(LIMIT_SECONDS)
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: sum(map(len, member.rows.values())) == 1_001, member)
    for partition in range(2):
        its_values = [value for value, to in zip(values, partitions, strict=True) if to == partition]
        assert [(key, value) for _, key, value, _ in member.rows[partition]] == [
            (b"key", value) for value in its_values
        ]
    assert [row[1:3] for row in member.rows[2]] == [(None, b"without a key")]


def test_many_records_for_a_topic_that_takes_small_batches_arrive(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(**{"max.message.bytes": 5_000})
    values = [b"%04d" % number + bytes(1_000) for number in range(100)]
    if isinstance(system, LibrdkafkaSystem):
        # It does not split a batch that a topic refuses, so it has to be told.
        system.config.kafka["batch.size"] = 4_000
    producer = system.producer()
    producer.send_all(topic, values)
    assert producer.flush(LIMIT_SECONDS)
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: len(member.values()) == len(values), member)
    assert member.values() == values


def test_a_producer_told_what_the_topic_takes_fills_batches_up_to_that(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(**{"max.message.bytes": 5_000})
    values = [b"%04d" % number + os.urandom(1_000) for number in range(100)]
    producer = system.producer("zstd", 4_700)
    producer.send_all(topic, values)
    for value in values:
        producer.send(topic, value, headers=[("reason", b"x")])
    assert producer.flush(LIMIT_SECONDS)
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: len(member.values()) == 2 * len(values), member)
    assert member.values() == values * 2


def test_a_record_that_fits_compressed_is_taken(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(**{"max.message.bytes": 5_000})
    producer = system.producer("zstd")
    producer.send(topic, bytes(9 * MIB))
    assert producer.flush(LIMIT_SECONDS)
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: bool(member.values()), member)
    assert member.values() == [bytes(9 * MIB)]


def test_one_record_too_large_among_many_is_told(system: System, new_topic: Callable[..., str]) -> None:
    producer = system.producer()
    topic = new_topic()

    def deliver() -> None:
        producer.send_all(topic, [b"small", bytes(17 * MIB), b"small"])
        producer.flush(LIMIT_SECONDS)

    with pytest.raises(TooLargeError):
        deliver()


@pytest.mark.parametrize("megabytes", [2, 17], ids=["for the topic", "for any topic"])
def test_a_record_that_is_too_large_is_told(
    system: System, new_topic: Callable[..., str], unique_name: Names, megabytes: int
) -> None:
    topic = new_topic()
    with pytest.raises(TooLargeError):
        send(system, topic, bytes(megabytes * MIB))
    assert system.consumer(topic, unique_name("group")).watermark_offsets([0]) == {0: (0, 0)}


def test_a_record_for_a_topic_that_allows_its_size_is_taken(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(**{"max.message.bytes": 8 * MIB})
    send(system, topic, bytes(7 * MIB))
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: bool(member.rows), member)
    assert member.values() == [bytes(7 * MIB)]


def test_closing_a_producer_does_not_wait_for_records_in_flight(system: System, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    producer = system.producer()
    producer.send(topic, b"x")
    system.go_away()
    started = time.monotonic()
    producer.close()
    assert time.monotonic() - started < PROMPT_SECONDS
