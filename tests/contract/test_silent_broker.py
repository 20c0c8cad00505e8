"""A broker that falls silent or is not there: every client says so in time."""

import threading
import time
from collections.abc import Callable

import pytest
from brokers import config_for
from client_proxies import LoginCutOff
from contract_systems import MIB, PROMPT_SECONDS, Member, Names, System, poll_until, send
from patience import LIMIT_SECONDS, until

from unique_users.clients import connect, kafka_python, librdkafka
from unique_users.clients.protocols import Position
from unique_users.errors import BrokerAwayError
from unique_users.local_kafka.broker import free_port


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
        member.consumer.watermark_offsets([0], 0.5)
    with pytest.raises(BrokerAwayError):
        member.consumer.committed([0])
    with pytest.raises(BrokerAwayError):
        member.consumer.commit({0: Position(1)}, 0.5)
    assert member.consumer.poll(0.2).batches == []
    member.consumer.close()
    assert time.monotonic() - started < PROMPT_SECONDS


def test_an_admin_whose_broker_falls_silent_says_so_within_the_time_of_a_request(
    system: System, new_topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic()
    for admins in (kafka_python.admin, librdkafka.admin):
        monkeypatch.setattr(admins, "REQUEST_SECONDS", 1.0)
    admin = system.admin()
    assert admin.describe(topic) is not None
    system.go_away()
    started = time.monotonic()
    with pytest.raises(BrokerAwayError):
        admin.describe(topic)
    assert time.monotonic() - started < PROMPT_SECONDS


def test_a_producer_whose_broker_falls_silent_has_not_flushed(system: System, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    producer = system.producer()
    producer.send(topic, b"0")
    assert producer.flush(LIMIT_SECONDS)
    system.go_away()
    producer.send(topic, b"1")
    started = time.monotonic()
    assert producer.flush(0.5) is False
    assert producer.backpressure_eased(0.5) is True
    for _ in range(40):
        producer.send(topic, bytes(MIB - 1000))
    assert producer.backpressure_eased(0.5) is False
    assert producer.flush(0.5) is False
    assert time.monotonic() - started < PROMPT_SECONDS


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
@pytest.mark.parametrize("kind", ["consumer", "producer", "admin", "lookup"])
def test_a_client_of_a_port_where_nothing_listens_raises_broker_away_error_and_leaves_no_thread_behind(
    unique_name: Names, kind: str, client: str
) -> None:
    config = config_for(f"127.0.0.1:{free_port()}", client=client)
    builds: dict[str, Callable[[], object]] = {
        "consumer": lambda: connect.get_consumer(config, unique_name("topic"), unique_name("group")),
        "producer": lambda: connect.get_producer(config),
        "admin": lambda: connect.get_admin(config),
        "lookup": lambda: connect.get_record_lookup(config, unique_name("topic")),
    }
    before = set(threading.enumerate())
    with pytest.raises(BrokerAwayError, match=config.bootstrap_servers[0]):
        builds[kind]()
    # Loops try again every second, for as long as a broker is away.
    until(lambda: set(threading.enumerate()) <= before, lambda: f"the end of {set(threading.enumerate()) - before}")


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_a_broker_that_ends_during_a_login_is_away_and_has_not_refused_it(broker: str, client: str) -> None:
    proxy = LoginCutOff(broker)
    kafka = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"}
    login = {"sasl_plain_username": "user", "sasl_plain_password": "password"}
    config = config_for(f"127.0.0.1:{proxy.port}", client=client, kafka=kafka | login)
    with pytest.raises(BrokerAwayError):
        connect.get_admin(config)
    proxy.close()
