"""What the loops rely on, held against the fake and against every real client on a real broker."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Protocol

import confluent_kafka
import pytest
from bombs import send_bomb
from brokers import config_for
from fakes import FakeAdmin, FakeConsumer, FakeKafka, FakePeek, FakeProducer
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import MemberToRemove

from unique_users.clients import connect, kafka_python, librdkafka
from unique_users.clients.protocols import REQUEST_SECONDS, Admin, Consumer, Headers, Peek, Peeked, Position, Producer
from unique_users.config.schema import Topic
from unique_users.errors import BrokerAwayError, BrokerError, TooLargeError, TopicError
from unique_users.local_kafka.broker import free_port
from unique_users.messages.partitioning import partition_of

PATIENCE_SECONDS = 30.0
MIB = 1024 * 1024
SASL_HANDSHAKE = 17  # the number of that request
Names = Callable[[str], str]


class System(Protocol):
    """A Kafka and the clients for it."""

    def consumer(self, topic: str, group: str) -> Consumer: ...
    def producer(self, compression: str = "none", batch_bytes_max: int | None = None) -> Producer: ...
    def admin(self) -> Admin: ...
    def peek(self, topic: str) -> Peek: ...
    def evict(self, consumer: Consumer) -> None: ...
    def trim(self, topic: str, partition: int, before: int) -> None: ...
    def headers(self, topic: str) -> list[Headers]: ...
    def send_unreadable(self, topic: str, count: int) -> None: ...
    def go_away(self) -> None: ...
    def close(self) -> None: ...


class FakeSystem:
    def __init__(self) -> None:
        self.kafka = FakeKafka()

    def consumer(self, topic: str, group: str) -> FakeConsumer:
        return FakeConsumer(self.kafka, topic, group)

    def producer(self, compression: str = "none", batch_bytes_max: int | None = None) -> FakeProducer:  # noqa: ARG002
        return FakeProducer(self.kafka, compression)

    def admin(self) -> FakeAdmin:
        return FakeAdmin(self.kafka)

    def peek(self, topic: str) -> FakePeek:
        return FakePeek(self.kafka, topic)

    def evict(self, consumer: Consumer) -> None:
        assert isinstance(consumer, FakeConsumer)
        self.kafka.evict(consumer)

    def trim(self, topic: str, partition: int, before: int) -> None:
        self.kafka.trim(topic, partition, before)

    def headers(self, topic: str) -> list[Headers]:
        return [record.headers for record in self.kafka.records(topic)]

    def send_unreadable(self, topic: str, count: int) -> None:
        self.kafka.append_unreadable(topic, count, "it unpacks to too much")

    def go_away(self) -> None:
        self.kafka.away = True

    def close(self) -> None:
        pass


class FreezableProxy:
    """A CONNECT proxy between a client and its broker, which a test can silence: a partitioned network."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = [self._listener]
        self.damages: tuple[bytes, bytes] = (b"", b"")  # what is changed on its way, and into what
        self._running = threading.Event()
        self._running.set()
        self._serve(self._accept)

    def freeze(self) -> None:
        self._running.clear()

    def close(self) -> None:
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._running.set()

    def _serve(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        def until_closed() -> None:
            with suppress(OSError):
                work(*arguments)

        threading.Thread(target=until_closed, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            self._sockets.append(client)
            self._serve(self._connect, client)

    def _connect(self, client: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += client.recv(4096)
        self._running.wait()
        host, _, port = request.split()[1].decode().rpartition(":")
        server = socket.create_connection((host, int(port)))
        self._sockets.append(server)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        self._serve(self._pump, server, client)
        self._pump(client, server)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65536):
            self._running.wait()
            target.sendall(data.replace(*self.damages) if self.damages[0] else data)


class RewritingProxy(FreezableProxy):
    """Stands in for the broker, whose answers it changes to name itself: for clients that cannot use a proxy."""

    def __init__(self, broker: str) -> None:
        super().__init__()
        host, _, port = broker.rpartition(":")
        self._broker = (host, int(port))
        # A response names a broker by its host and, right behind it, its port in four bytes.
        self._names = [
            (name + int(port).to_bytes(4, "big"), name + self.port.to_bytes(4, "big"))
            for name in (b"127.0.0.1", b"localhost")
        ]

    def _connect(self, client: socket.socket) -> None:
        self._running.wait()
        with client, socket.create_connection(self._broker) as server:
            self._sockets.append(server)
            self._serve(self._answer, server, client)
            self._pump(client, server)

    def _answer(self, source: socket.socket, target: socket.socket) -> None:
        with source.makefile("rb") as responses:
            while size := responses.read(4):
                response = responses.read(int.from_bytes(size, "big"))
                for theirs, ours in self._names:
                    response = response.replace(theirs, ours)
                if self.damages[0]:
                    response = response.replace(*self.damages)
                self._running.wait()
                target.sendall(size + response)


class LoginCutOff(RewritingProxy):
    """Stands in for a broker that ends while a client logs in."""

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with source.makefile("rb") as requests:
            while size := requests.read(4):
                request = requests.read(int.from_bytes(size, "big"))
                if int.from_bytes(request[:2], "big") == SASL_HANDSHAKE:
                    source.shutdown(socket.SHUT_RDWR)
                    return
                target.sendall(size + request)


class KafkaPythonSystem:
    def __init__(self, broker: str) -> None:
        self._broker = broker
        self._proxy = FreezableProxy()
        # Members hear of a rebalance with a heartbeat: 0.2 s instead of 1.
        quick = {"heartbeat_interval_ms": 200, "proxy_url": f"http://127.0.0.1:{self._proxy.port}"}
        self.config = config_for(broker, kafka=quick)
        self._built: list[Consumer | Producer | Admin | Peek] = []

    def consumer(self, topic: str, group: str) -> Consumer:
        consumer = connect.get_consumer(self.config, topic, group)
        self._built.append(consumer)
        return consumer

    def producer(self, compression: str = "none", batch_bytes_max: int | None = None) -> Producer:
        producer = connect.get_producer(self.config, compression, batch_bytes_max)
        self._built.append(producer)
        return producer

    def admin(self) -> Admin:
        admin = connect.get_admin(self.config)
        self._built.append(admin)
        return admin

    def peek(self, topic: str) -> Peek:
        peek = connect.get_peek(self.config, topic)
        self._built.append(peek)
        return peek

    def evict(self, consumer: Consumer) -> None:
        assert isinstance(consumer, kafka_python.consumer.KafkaPythonConsumer)
        metadata = consumer._consumer.group_metadata()
        self._remove(metadata.group_id, metadata.member_id)

    def _remove(self, group: str, member: str) -> None:
        with self._own_admin() as admin:
            admin.remove_group_members(group, [MemberToRemove(member)])

    def trim(self, topic: str, partition: int, before: int) -> None:
        with self._own_admin() as admin:
            admin.delete_records({TopicPartition(topic, partition): before})

    def headers(self, topic: str) -> list[Headers]:
        with KafkaConsumer(topic, bootstrap_servers=self._broker, auto_offset_reset="earliest") as consumer:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < deadline:
                for records in consumer.poll(timeout_ms=200).values():
                    return [record.headers for record in records]
        return []

    def send_unreadable(self, topic: str, count: int) -> None:
        send_bomb(self._broker, topic, "zstd", records=count)

    def send_nothing(self, topic: str, key: bytes) -> None:
        with KafkaProducer(bootstrap_servers=self._broker) as producer:
            producer.send(topic, None, key).get(PATIENCE_SECONDS)

    def damage(self, what: bytes, into: bytes) -> None:
        self._proxy.damages = (what, into)

    def go_away(self) -> None:
        self._proxy.freeze()

    def close(self) -> None:
        for built in self._built:
            with suppress(Exception):
                built.close()
        self._proxy.close()

    def _own_admin(self) -> Any:
        return KafkaAdminClient(bootstrap_servers=self._broker)


class LibrdkafkaSystem(KafkaPythonSystem):
    def __init__(self, broker: str) -> None:
        super().__init__(broker)
        self._proxy.close()
        self._proxy = RewritingProxy(broker)
        kafka = {"heartbeat_interval_ms": 200}
        self.config = config_for(f"127.0.0.1:{self._proxy.port}", client="librdkafka", kafka=kafka)
        self._groups: dict[Consumer, str] = {}

    def consumer(self, topic: str, group: str) -> Consumer:
        consumer = super().consumer(topic, group)
        self._groups[consumer] = group
        return consumer

    def evict(self, consumer: Consumer) -> None:
        assert isinstance(consumer, librdkafka.consumer.LibrdkafkaConsumer)
        self._remove(self._groups[consumer], consumer._consumer.memberid())


@pytest.fixture(params=["fake", "kafka-python", "librdkafka"])
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    system: System
    if request.param == "fake":
        system = FakeSystem()
    else:
        make = {"kafka-python": KafkaPythonSystem, "librdkafka": LibrdkafkaSystem}[request.param]
        system = make(request.getfixturevalue("broker"))
    yield system
    system.close()


@pytest.fixture
def new_topic(system: System, unique_name: Names) -> Iterator[Callable[..., str]]:
    """Makes topics with names of their own, and deletes them afterwards."""
    names: list[str] = []

    def new_topic(partitions: int = 1, **settings: str | int) -> str:
        names.append(unique_name("topic"))
        admin = system.admin()
        admin.create(Topic(name=names[-1], partitions=partitions, settings=dict(settings)))
        admin.close()
        return names[-1]

    yield new_topic
    with suppress(BrokerAwayError):
        system.admin().delete(names)


class Member:
    """A consumer, and what it has been told and has read since it was made."""

    def __init__(self, system: System, topic: str, group: str, *, starts: bool = True) -> None:
        self.consumer = system.consumer(topic, group)
        self.starts = starts
        self.owned: set[int] = set()
        self.revoked: list[int] = []
        self.rows: dict[int, list[tuple[int, bytes | None, bytes | None, int]]] = {}
        self.leader_epochs: set[int] = set()

    def poll(self) -> None:
        polled = self.consumer.poll(0.1)
        self.owned -= polled.revoked
        self.revoked += sorted(polled.revoked)
        self.owned |= polled.assigned
        assigned = polled.assigned if self.starts else frozenset()
        committed, bounds = self.consumer.committed(assigned), self.consumer.bounds(assigned)
        for partition in assigned:
            at = committed.get(partition)
            self.consumer.seek(partition, at.offset if at else bounds[partition][0])
        for batch in polled.batches:
            rows = zip(batch.offsets, batch.keys, batch.values, batch.timestamps_ms, strict=True)
            self.rows.setdefault(batch.partition, []).extend(rows)
            self.leader_epochs.add(batch.leader_epoch)

    def values(self, partition: int = 0) -> list[bytes | None]:
        return [value for _, _, value, _ in self.rows.get(partition, [])]

    def offsets(self, partition: int = 0) -> list[int]:
        return [offset for offset, _, _, _ in self.rows.get(partition, [])]


def poll_until(condition: Callable[[], bool], *members: Member) -> None:
    """Poll the members in turn until `condition` holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, [(member.owned, member.revoked, member.rows) for member in members]
        for member in members:
            member.poll()


def send(system: System, topic: str, *values: bytes, partition: int | None = None, key: bytes | None = None) -> None:
    producer = system.producer()
    for value in values:
        producer.send(topic, value, key, partition=partition)
    assert producer.flush(PATIENCE_SECONDS)
    producer.close()


def test_records_come_in_order_as_columns_of_equal_length(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    before = int(time.time() * 1000)
    producer = system.producer()
    producer.send(topic, b"a", b"k")
    producer.send(topic, b"")
    producer.send(topic, b"c", b"")
    assert producer.flush(PATIENCE_SECONDS)
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
    deadline = time.monotonic() + PATIENCE_SECONDS
    read = 0
    while read < 3 and time.monotonic() < deadline:
        polled = consumer.poll(0.1)
        for partition in polled.assigned:
            consumer.seek(partition, 0)
        for batch in polled.batches:
            read += len(batch.offsets)
            assert batch.partition == 0
            assert batch.next_offset == read == consumer.position(0)
    assert read == 3


def test_a_poll_brings_some_of_many_records_and_not_all(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(**{"compression.type": "lz4"})  # so one fetch holds all of them
    producer = system.producer()
    for _ in range(20):
        producer.send_all(topic, [bytes(1_000)] * 1_000)
    assert producer.flush(PATIENCE_SECONDS)
    consumer = system.consumer(topic, unique_name("group"))
    sizes: list[int] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while sum(sizes) < 20_000 and time.monotonic() < deadline:
        polled = consumer.poll(0.5)
        for partition in polled.assigned:
            consumer.seek(partition, 0)
        sizes += [len(batch.offsets) for batch in polled.batches]
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
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(found) < count + 3 and time.monotonic() < deadline:
        polled = consumer.poll(0.1)
        for partition in polled.assigned:
            consumer.seek(partition, 0)
        for batch in polled.batches:
            assert len(batch.keys) == len(batch.values) == len(batch.timestamps_ms) == len(batch.offsets)
            rows = zip(batch.offsets, batch.values, strict=True)
            found += [(offset, value, bool(batch.unreadable)) for offset, value in rows]
            assert consumer.position(0) >= batch.next_offset
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
        assert producer.flush(PATIENCE_SECONDS)
    producer.close()
    system.damage(b"what was sent", b"what was kept")
    member = Member(system, topic, unique_name("group"))
    with pytest.raises(TopicError, match=f"{topic}-0: the batch at offset 1 is damaged, its checksum is wrong: "):
        poll_until(lambda: False, member)


def test_headers_arrive_as_they_were_sent(system: System, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    producer = system.producer()
    producer.send(topic, b"v", headers=[("reason", b"late"), ("detail", "ü\0".encode()), ("reason", b"")])
    assert producer.flush(PATIENCE_SECONDS)
    assert system.headers(topic) == [[("reason", b"late"), ("detail", "ü\0".encode()), ("reason", b"")]]


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
    assert member.consumer.bounds([0]) == {0: (0, 2)}
    assert member.consumer.position(0) == 0
    poll_until(lambda: len(member.values()) == 2, member)
    assert member.consumer.position(0) == 2
    send(system, topic, b"2")
    assert member.consumer.bounds([0]) == {0: (0, 3)}


def test_bounds_tell_the_first_offset_that_retention_left(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(partitions=2)
    send(system, topic, b"0", b"1", b"2", partition=1)
    system.trim(topic, 1, 2)
    consumer = system.consumer(topic, unique_name("group"))
    assert consumer.bounds([0, 1]) == {0: (0, 0), 1: (2, 3)}
    assert consumer.ends([0, 1]) == {0: 0, 1: 3}
    assert consumer.bounds([]) == {}
    assert consumer.ends([]) == {}


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


def test_a_member_gets_its_partitions_however_short_its_polls_are(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    for _ in range(3):
        consumer = system.consumer(topic, unique_name("group"))
        deadline = time.monotonic() + 10
        while not consumer.poll(0.005).assigned:
            assert time.monotonic() < deadline, "a poll that ends while the group is being joined is followed by others"
        consumer.close()


def test_a_member_gets_its_partitions_however_long_it_does_not_poll(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    consumer = system.consumer(topic, unique_name("group"))
    for _ in range(50):
        if consumer.poll(0).assigned:
            return
        time.sleep(0.1)  # so that joining the group goes on while nobody asks for it
    pytest.fail("it never got its partition")


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
    assert producer.flush(PATIENCE_SECONDS)
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
    assert producer.flush(PATIENCE_SECONDS) == 0
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
    assert producer.flush(PATIENCE_SECONDS) is True
    assert consumer.bounds([0]) == {0: (0, 1_000)}
    assert producer.flush(PATIENCE_SECONDS) is True


def test_there_is_room_below_the_bound_and_again_when_the_broker_has_taken_some(
    system: System, new_topic: Callable[..., str]
) -> None:
    topic = new_topic()
    producer = system.producer()
    assert producer.has_room(0)
    for _ in range(40):
        producer.send(topic, bytes(MIB - 1000))
    assert producer.has_room(PATIENCE_SECONDS)
    assert producer.flush(PATIENCE_SECONDS)


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
    assert producer.flush(PATIENCE_SECONDS)
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
    assert producer.flush(PATIENCE_SECONDS)
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
    assert producer.flush(PATIENCE_SECONDS)
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
    assert producer.flush(PATIENCE_SECONDS)
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
    assert producer.flush(PATIENCE_SECONDS)
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
    assert producer.flush(PATIENCE_SECONDS)
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: len(member.values()) == 2 * len(values), member)
    assert member.values() == values * 2


def test_a_record_that_fits_compressed_is_taken(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic(**{"max.message.bytes": 5_000})
    producer = system.producer("zstd")
    producer.send(topic, bytes(9 * MIB))
    assert producer.flush(PATIENCE_SECONDS)
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: bool(member.values()), member)
    assert member.values() == [bytes(9 * MIB)]


def test_one_record_too_large_among_many_is_told(system: System, new_topic: Callable[..., str]) -> None:
    producer = system.producer()
    topic = new_topic()

    def deliver() -> None:
        producer.send_all(topic, [b"small", bytes(17 * MIB), b"small"])
        producer.flush(PATIENCE_SECONDS)

    with pytest.raises(TooLargeError):
        deliver()


@pytest.mark.parametrize("megabytes", [2, 17], ids=["for the topic", "for any topic"])
def test_a_record_that_is_too_large_is_told(
    system: System, new_topic: Callable[..., str], unique_name: Names, megabytes: int
) -> None:
    topic = new_topic()
    with pytest.raises(TooLargeError):
        send(system, topic, bytes(megabytes * MIB))
    assert system.consumer(topic, unique_name("group")).bounds([0]) == {0: (0, 0)}


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
    assert time.monotonic() - started < 2


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


def test_creating_a_topic_that_exists_leaves_it_as_it_is(system: System, new_topic: Callable[..., str]) -> None:
    topic = new_topic(partitions=2)
    before = system.admin().describe(topic)
    system.admin().create(Topic(name=topic, partitions=5))
    assert system.admin().describe(topic) == before


def test_a_topic_that_the_broker_refuses_raises_topic_error(system: System, unique_name: Names) -> None:
    name = unique_name("topic")
    with pytest.raises(TopicError, match=name):
        system.admin().create(Topic(name=name, replication=5))
    assert system.admin().describe(name) is None


def test_a_deleted_topic_is_gone_and_one_made_again_has_another_id(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    admin = system.admin()
    before = admin.describe(topic)
    admin.delete([topic, unique_name("missing")])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while admin.describe(topic) is not None:
        assert time.monotonic() < deadline
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
    assert admin.ends(topic) == {0: 2, 1: 0, 2: 3}
    with pytest.raises(BrokerAwayError):
        admin.ends(unique_name("missing"))


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


def test_a_peek_gives_the_record_at_an_offset_and_no_other(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    """offsets   trimmed: 0 1 │ kept: 2 3 4 │ to come: 5"""
    topic = new_topic(partitions=2)
    producer = system.producer()
    for value in (b"0", b"1", b"2", b"", b"4"):
        producer.send(topic, value, b"k" if value else None, partition=1)  # in one batch, or a few
    assert producer.flush(PATIENCE_SECONDS)
    system.trim(topic, 1, 2)
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: len(member.values(1)) == 3, member)
    peek = system.peek(topic)
    for _ in range(2):
        for row in member.rows[1]:
            record = peek.record_at(1, row[0], PATIENCE_SECONDS)
            assert record is not None
            assert record.leader_epoch >= 0
            assert record == Peeked(row[0], record.leader_epoch, *row[1:])
            assert {record.leader_epoch} == member.leader_epochs
        for missing in (0, 1, 5, 6, 1_000):
            assert peek.record_at(1, missing, PATIENCE_SECONDS) is None
        assert peek.record_at(0, 0, PATIENCE_SECONDS) is None
    send(system, topic, b"5", partition=1)
    later = peek.record_at(1, 5, PATIENCE_SECONDS)
    assert later is not None
    assert later.value == b"5"
    system.trim(topic, 1, 4)
    assert peek.record_at(1, 3, PATIENCE_SECONDS) is None, "it was there, and was asked for, a moment ago"


def test_a_peek_at_a_topic_that_is_missing_or_a_broker_that_is_silent_raises_broker_away_error(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    send(system, topic, b"0")
    with pytest.raises(BrokerAwayError):
        system.peek(unique_name("missing")).record_at(0, 0, 0.5)
    peek = system.peek(topic)
    assert peek.record_at(0, 0, PATIENCE_SECONDS) is not None
    system.go_away()
    with pytest.raises(BrokerAwayError):
        peek.record_at(0, 0, 0.5)


def test_a_consumer_whose_broker_falls_silent_polls_nothing_and_says_so_when_asked(
    system: System, new_topic: Callable[..., str], unique_name: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    for consumers in (kafka_python.consumer, librdkafka.consumer):
        monkeypatch.setattr(consumers, "REQUEST_SECONDS", 0.5)
        monkeypatch.setattr(consumers, "CLOSE_SECONDS", 0.5)
    topic = new_topic()
    send(system, topic, b"0")
    member = Member(system, topic, unique_name("group"))
    poll_until(lambda: member.values() == [b"0"], member)
    system.go_away()
    started = time.monotonic()
    assert member.consumer.poll(0.2).batches == []
    assert member.consumer.position(0) == 1
    with pytest.raises(BrokerAwayError):
        member.consumer.bounds([0], 0.5)
    with pytest.raises(BrokerAwayError):
        member.consumer.committed([0])
    with pytest.raises(BrokerAwayError):
        member.consumer.commit({0: Position(1)}, 0.5)
    assert member.consumer.poll(0.2).batches == []
    member.consumer.close()
    assert time.monotonic() - started < 8


def test_an_admin_whose_broker_falls_silent_says_so_within_the_time_of_a_request(
    system: System, new_topic: Callable[..., str]
) -> None:
    topic = new_topic()
    admin = system.admin()
    assert admin.describe(topic) is not None
    system.go_away()
    started = time.monotonic()
    with pytest.raises(BrokerAwayError):
        admin.describe(topic)
    assert time.monotonic() - started < REQUEST_SECONDS + 2


def test_a_producer_whose_broker_falls_silent_has_not_flushed(system: System, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    producer = system.producer()
    producer.send(topic, b"0")
    assert producer.flush(PATIENCE_SECONDS)
    system.go_away()
    producer.send(topic, b"1")
    started = time.monotonic()
    assert producer.flush(0.5) is False
    assert producer.has_room(0.5) is True
    for _ in range(40):
        producer.send(topic, bytes(MIB - 1000))
    assert producer.has_room(0.5) is False
    assert producer.flush(0.5) is False
    assert time.monotonic() - started < 8


def test_a_consumer_that_is_closed_lets_a_new_member_in_at_once(
    system: System, new_topic: Callable[..., str], unique_name: Names
) -> None:
    topic = new_topic()
    group = unique_name("group")
    for _ in range(4):
        member = Member(system, topic, group)
        started = time.monotonic()
        poll_until(lambda member=member: member.owned == {0}, member)  # type: ignore[misc]
        assert time.monotonic() - started < 5, "less than a session timeout"
        member.consumer.close()


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
@pytest.mark.parametrize("kind", ["consumer", "producer", "admin", "peek"])
def test_a_client_of_a_port_where_nothing_listens_raises_broker_away_error_and_leaves_no_thread_behind(
    unique_name: Names, kind: str, client: str
) -> None:
    config = config_for(f"127.0.0.1:{free_port()}", client=client)
    builds: dict[str, Callable[[], object]] = {
        "consumer": lambda: connect.get_consumer(config, unique_name("topic"), unique_name("group")),
        "producer": lambda: connect.get_producer(config),
        "admin": lambda: connect.get_admin(config),
        "peek": lambda: connect.get_peek(config, unique_name("topic")),
    }
    before = set(threading.enumerate())
    with pytest.raises(BrokerAwayError, match=config.bootstrap_servers[0]):
        builds[kind]()
    deadline = time.monotonic() + 5
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, "loops try again every second, for as long as a broker is away"


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_a_broker_that_ends_during_a_login_is_away_and_has_not_refused_it(broker: str, client: str) -> None:
    proxy = LoginCutOff(broker)
    kafka = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"}
    login = {"sasl_plain_username": "user", "sasl_plain_password": "password"}
    config = config_for(f"127.0.0.1:{proxy.port}", client=client, kafka=kafka | login)
    with pytest.raises(BrokerAwayError):
        connect.get_admin(config)
    proxy.close()


def test_for_kafka_python_records_that_come_one_by_one_are_gathered_for_one_poll(
    broker: str, unique_name: Names
) -> None:
    config = config_for(broker, kafka={"fetch_max_wait_ms": 3_000})  # longer than ours, to see it
    topic, sent = unique_name("topic"), [b"a", b"b", b"c"]
    admin, producer = connect.get_admin(config), connect.get_producer(config)
    admin.create(Topic(name=topic, partitions=1))
    consumer = connect.get_consumer(config, topic, unique_name("group"), fewer_fetches=True)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (assigned := consumer.poll(0.1).assigned):
        assert time.monotonic() < deadline
    for partition in assigned:
        consumer.seek(partition, 0)
    assert not consumer.poll(0.5).batches, "now the broker is asked for records"
    for value in sent:
        producer.send(topic, value)
        assert producer.flush(PATIENCE_SECONDS)
    while not (batches := consumer.poll(0.1).batches):
        assert time.monotonic() < deadline
    assert [value for batch in batches for value in batch.values] == sent
    consumer.close()
    producer.close()
    admin.delete([topic])
    admin.close()


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
    wait_for(lambda: len(first.owned) == len(other.owned) == 1, first, other)
    owned, changes = first.owned, other.changes
    first.consumer.close()
    again = member("a")
    wait_for(lambda: again.owned == owned, again, other)
    settled = time.monotonic() + 2
    wait_for(lambda: time.monotonic() > settled, again, other)
    assert other.changes == changes
    twin = member("a")
    with pytest.raises(BrokerError, match="group_instance_id of this one"):
        wait_for(lambda: not again.consumer.commit({min(owned): Position(0)}), twin, again)
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


def wait_for(condition: Callable[[], bool], *members: StaticMember) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        for member in members:
            member.poll()
