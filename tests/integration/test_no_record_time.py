"""Frames in the message format of Kafka 0.9, whose records have no time, on a broker that can still store it."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import config_for
from kafka import KafkaProducer
from running import Running

from unique_users.clients.connect import get_admin, get_consumer, get_record_lookup
from unique_users.config.schema import Topic
from unique_users.errors import BrokerError
from unique_users.local_kafka.broker import LocalKafka, free_port

pytestmark = pytest.mark.slow

CLIENTS = ["kafka-python", "librdkafka"]
FRAMES = 20


@pytest.fixture(scope="module")
def old_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("kafka-2.4.0") / "data"
    with LocalKafka("2.4.0", data, free_port(), host="127.0.0.1", heap="256m") as kafka:
        yield kafka.bootstrap_servers


@pytest.fixture
def old_topic(old_broker: str) -> Callable[[str, str | None], None]:
    """Makes a topic of the old format with frames, sent as an old producer does."""

    def old_topic(name: str, codec: str | None) -> None:
        admin = get_admin(config_for(old_broker))
        admin.create(Topic(name=name, settings={"message.format.version": "0.9.0"}))
        admin.close()
        sends: Any = KafkaProducer(
            bootstrap_servers=old_broker, enable_idempotence=False, compression_type=codec, linger_ms=50
        )
        for number in range(FRAMES):
            sends.send(name, b'{"uid": "u%d", "ts": 1468244400}' % number)
        sends.flush()
        sends.close()

    return old_topic


@pytest.mark.parametrize("codec", [None, "gzip"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_frame_whose_record_has_no_time_is_counted_and_never_ahead_of_it(
    old_broker: str, old_topic: Callable[..., None], tmp_path: Path, client: str, codec: str | None
) -> None:
    scripts = Running(old_broker, tmp_path, [f"client={client}"])
    old_topic(scripts.topic("feed"), codec)
    for _ in range(2):
        read = json.loads(scripts.run("bucketer", "--until-caught-up", "--format=json").stdout.splitlines()[-1])
        assert (read["frames"]["rejected"], read["lag"]) == ({}, 0)
    counted = [
        json.loads(line) for line in scripts.run("counter", "--until-caught-up", "--format=json").stdout.splitlines()
    ]
    assert [line["unique_users"] for line in counted if "start" in line] == [FRAMES]
    assert counted[-1]["feed_lag"] == 0


@pytest.mark.parametrize("client", CLIENTS)
def test_a_single_record_without_a_time_has_none(old_broker: str, old_topic: Callable[..., None], client: str) -> None:
    name = f"old-{uuid.uuid4().hex}"
    old_topic(name, None)
    lookup = get_record_lookup(config_for(old_broker, client=client), name)
    record = lookup.record_at(0, 1, 30)
    assert record
    assert (record.offset, record.timestamp_ms) == (1, -1)
    lookup.close()


@pytest.mark.parametrize("client", CLIENTS)
def test_no_group_can_start_at_a_time_where_records_have_none(
    old_broker: str, old_topic: Callable[..., None], client: str
) -> None:
    name = f"old-{uuid.uuid4().hex}"
    old_topic(name, None)
    consumer = get_consumer(config_for(old_broker, client=client), name, name)
    with pytest.raises(BrokerError, match=r"have no times|UNSUPPORTED_FOR_MESSAGE_FORMAT"):
        consumer.offsets_at([0], 1)
    consumer.close()
