"""Clients that go on while their broker is stopped and comes back as a copy of it that was made earlier."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from brokers import config_for
from patience import LIMIT_SECONDS, until

from unique_users.clients.connect import get_admin, get_consumer, get_producer, get_record_lookup
from unique_users.clients.protocols import Consumer, Producer
from unique_users.config.schema import Config, Topic
from unique_users.errors import BrokerAwayError, DeliveryError
from unique_users.local_kafka.broker import LocalKafka, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # a broker that is started four times
TOPIC = "t"


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[LocalKafka]:
    with LocalKafka("4.3.1", tmp_path / "kafka", free_port()) as kafka:
        yield kafka


class Reader:
    """A member of a group that reads the topic from its start, whenever it gets it."""

    def __init__(self, config: Config) -> None:
        self.consumer: Consumer = get_consumer(config, TOPIC, config.client)
        self.values: list[bytes | None] = []
        self._unopened: set[int] = set()

    def has_read(self, value: bytes) -> bool:
        polled = self.consumer.poll(0.1)
        self.values += [value for batch in polled.batches for value in batch.values]
        self._unopened = self._unopened - polled.revoked | polled.assigned
        try:
            self.consumer.high_watermark_offsets([0])  # as a report does
            for partition, (first, _) in self.consumer.watermark_offsets(self._unopened).items():
                self.consumer.seek(partition, first)
                self._unopened.discard(partition)
        except BrokerAwayError:
            return False
        return value in self.values


class Sender:
    """A producer, and another one where it fails."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._producer: Producer = get_producer(config)

    def has_sent(self, value: bytes) -> bool:
        try:
            self._producer.send(TOPIC, value)
            return self._producer.flush(1)
        except DeliveryError:
            self._producer.close()
            self._producer = get_producer(self._config)
            return False

    def close(self) -> None:
        self._producer.close()


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_every_client_goes_on_with_a_broker_that_was_restored_from_a_copy(
    kafka: LocalKafka, tmp_path: Path, client: str
) -> None:
    """the log   a │ copied │ old, and started again, so that its leader epoch is higher │ the copy │ new"""
    config = config_for(kafka.bootstrap_servers, client=client)
    admin = get_admin(config)
    admin.create(Topic(name=TOPIC, partitions=1))
    first = Sender(config)
    until(lambda: first.has_sent(b"a"), "a to be sent")
    first.close()
    kafka.stop()
    shutil.copytree(kafka.data, tmp_path / "copy")
    kafka.start()
    kafka.stop()
    kafka.start()
    sender, reader, lookup = Sender(config), Reader(config), get_record_lookup(config, TOPIC)
    until(lambda: sender.has_sent(b"old"), "old to be sent")
    until(lambda: reader.has_read(b"old"), "old to be read")
    before = lookup.record_at(0, 1, LIMIT_SECONDS)
    assert before is not None
    assert before.value == b"old"
    kafka.stop()
    shutil.rmtree(kafka.data)
    shutil.copytree(tmp_path / "copy", kafka.data)
    kafka.start()
    until(lambda: answers(lambda: lookup.record_at(0, 1, 5) is None), "the copy to be looked at")
    until(lambda: sender.has_sent(b"new"), "new to be sent")
    until(lambda: reader.has_read(b"new"), "new to be read")
    after = lookup.record_at(0, 1, LIMIT_SECONDS)
    assert after is not None
    assert after.value == b"new"
    assert after.leader_epoch < before.leader_epoch

    def knows_the_end() -> bool:
        return admin.high_watermark_offsets(TOPIC)[0] >= 2 and bool(admin.newest_ms(TOPIC))

    until(lambda: answers(knows_the_end), "the admin to know the end")
    for one in (sender, reader.consumer, lookup, admin):
        one.close()


def answers(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except BrokerAwayError:
        return False
