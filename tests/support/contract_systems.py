"""A Kafka and the clients for it, real or faked: what the contract tests are run against."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from bombs import send_bomb
from brokers import config_for
from client_proxies import ConnectProxy, RewritingProxy
from fakes import FakeAdmin, FakeConsumer, FakeKafka, FakeProducer, FakeRecordLookup
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import MemberToRemove
from patience import LIMIT_SECONDS, until
from proxy import Proxy

from unique_users.clients import connect, kafka_python, librdkafka
from unique_users.clients.protocols import Admin, Batch, Consumer, Headers, Producer, RecordLookup

PROMPT_SECONDS = 30.0  # far more than a client takes that does not wait for a broker that is away

# Members hear of a rebalance with a heartbeat: 0.2 s instead of 1. Who waits for a session to run out waits too long.
GROUP = {"heartbeat_interval_ms": 200, "session_timeout_ms": 60_000}
MIB = 1024 * 1024
Names = Callable[[str], str]


class System(Protocol):
    """A Kafka and the clients for it."""

    def consumer(self, topic: str, group: str) -> Consumer: ...
    def reader(self, topic: str, group: str | None = None) -> Consumer: ...
    def producer(self, compression: str = "none", batch_bytes_max: int | None = None) -> Producer: ...
    def admin(self) -> Admin: ...
    def record_lookup(self, topic: str) -> RecordLookup: ...
    def evict(self, consumer: Consumer) -> None: ...
    def trim(self, topic: str, partition: int, before: int) -> None: ...
    def headers(self, topic: str) -> list[Headers]: ...
    def send_unreadable(self, topic: str, count: int) -> None: ...
    def go_away(self) -> None: ...
    def come_back(self) -> None: ...
    def close(self) -> None: ...


class FakeSystem:
    def __init__(self) -> None:
        self.kafka = FakeKafka()

    def consumer(self, topic: str, group: str) -> FakeConsumer:
        return FakeConsumer(self.kafka, topic, group)

    def reader(self, topic: str, group: str | None = None) -> FakeConsumer:
        return FakeConsumer(self.kafka, topic, group, alone=True)

    def producer(self, compression: str = "none", batch_bytes_max: int | None = None) -> FakeProducer:  # noqa: ARG002
        return FakeProducer(self.kafka, compression)

    def admin(self) -> FakeAdmin:
        return FakeAdmin(self.kafka)

    def record_lookup(self, topic: str) -> FakeRecordLookup:
        return FakeRecordLookup(self.kafka, topic)

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

    def come_back(self) -> None:
        self.kafka.away = False

    def close(self) -> None:
        pass


class KafkaPythonSystem:
    def __init__(self, broker: str) -> None:
        self._broker = broker
        self._proxy: Proxy = ConnectProxy()
        quick = {**GROUP, "proxy_url": f"http://127.0.0.1:{self._proxy.port}"}
        self.config = config_for(broker, kafka=quick)
        self._built: list[Consumer | Producer | Admin | RecordLookup] = []

    def consumer(self, topic: str, group: str) -> Consumer:
        consumer = connect.get_consumer(self.config, topic, group)
        self._built.append(consumer)
        return consumer

    def reader(self, topic: str, group: str | None = None) -> Consumer:
        reader = connect.get_reader(self.config, topic, group)
        self._built.append(reader)
        return reader

    def producer(self, compression: str = "none", batch_bytes_max: int | None = None) -> Producer:
        producer = connect.get_producer(self.config, compression, batch_bytes_max)
        self._built.append(producer)
        return producer

    def admin(self) -> Admin:
        admin = connect.get_admin(self.config)
        self._built.append(admin)
        return admin

    def record_lookup(self, topic: str) -> RecordLookup:
        lookup = connect.get_record_lookup(self.config, topic)
        self._built.append(lookup)
        return lookup

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
            polled = until(lambda: consumer.poll(timeout_ms=200), "a record with headers", every=0)
        return [record.headers for record in next(iter(polled.values()))]

    def send_unreadable(self, topic: str, count: int) -> None:
        send_bomb(self._broker, topic, "zstd", records=count)

    def send_nothing(self, topic: str, key: bytes) -> None:
        with KafkaProducer(bootstrap_servers=self._broker) as producer:
            producer.send(topic, None, key).get(LIMIT_SECONDS)

    def send_bad_header(self, topic: str, value: bytes) -> None:
        """Send a record with a header whose name is not UTF-8."""
        with KafkaProducer(bootstrap_servers=self._broker) as producer:
            producer.send(topic, value, headers=[(_NotUtf8("?"), b"x")]).get(LIMIT_SECONDS)

    def damage(self, what: bytes, into: bytes) -> None:
        self._proxy.damages = (what, into)

    def go_away(self) -> None:
        self._proxy.freeze()

    def come_back(self) -> None:
        self._proxy.thaw()

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
        self.config = config_for(f"127.0.0.1:{self._proxy.port}", client="librdkafka", kafka=GROUP)
        self._groups: dict[Consumer, str] = {}

    def consumer(self, topic: str, group: str) -> Consumer:
        consumer = super().consumer(topic, group)
        self._groups[consumer] = group
        return consumer

    def evict(self, consumer: Consumer) -> None:
        assert isinstance(consumer, librdkafka.consumer.LibrdkafkaConsumer)
        self._remove(self._groups[consumer], consumer._consumer.memberid())


class _NotUtf8(str):
    """A name that kafka-python writes as a byte that is not UTF-8."""

    __slots__ = ()

    def encode(self, *_how: str) -> bytes:
        return b"\xff"


class Polls(Protocol):
    """What notes what its polls bring."""

    def poll(self) -> None: ...


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
        committed, low_high = self.consumer.committed(assigned), self.consumer.watermark_offsets(assigned)
        for partition in assigned:
            at = committed.get(partition)
            self.consumer.seek(partition, at.offset if at else low_high[partition][0])
        for batch in polled.batches:
            rows = zip(batch.offsets, batch.keys, batch.values, batch.timestamps_ms, strict=True)
            self.rows.setdefault(batch.partition, []).extend(rows)
            self.leader_epochs.add(batch.leader_epoch)

    def values(self, partition: int = 0) -> list[bytes | None]:
        return [value for _, _, value, _ in self.rows.get(partition, [])]

    def offsets(self, partition: int = 0) -> list[int]:
        return [offset for offset, _, _, _ in self.rows.get(partition, [])]


def poll_until(condition: Callable[[], bool], *members: Polls) -> None:
    """Poll the members in turn until `condition` holds."""

    def polled() -> bool:
        if met := condition():
            return met
        for member in members:
            member.poll()
        return False

    until(polled, lambda: [vars(member) for member in members], every=0)


def polled_from_start(consumer: Consumer) -> list[Batch]:
    """What a poll brings; what it assigns is read from its start."""
    polled = consumer.poll(0.1)
    for partition in polled.assigned:
        consumer.seek(partition, 0)
    return polled.batches


def send(system: System, topic: str, *values: bytes, partition: int | None = None, key: bytes | None = None) -> None:
    producer = system.producer()
    for value in values:
        producer.send(topic, value, key, partition=partition)
    assert producer.flush(LIMIT_SECONDS)
    producer.close()
