"""Whoever ends with an error leaves its group, and the error is told as it was."""

import pytest
from brokers import config_for
from fakes import FakeConsumer, FakeKafka

from unique_users.clients.connect import get_admin, leaving_on_error
from unique_users.errors import StateError, UsageError


@pytest.fixture
def consumer(kafka: FakeKafka) -> FakeConsumer:
    return FakeConsumer(kafka, "feed", "group")


def test_an_error_lets_the_consumer_leave(consumer: FakeConsumer) -> None:
    with pytest.raises(StateError, match="a reason"), leaving_on_error(consumer):
        raise StateError("a reason")
    assert consumer.closed


def test_the_first_error_is_told_also_when_leaving_fails(
    consumer: FakeConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError("gone")

    monkeypatch.setattr(consumer, "close", fail)
    with pytest.raises(StateError, match="a reason"), leaving_on_error(consumer):
        raise StateError("a reason")


def test_without_an_error_closing_is_left_to_the_loop(consumer: FakeConsumer) -> None:
    with leaving_on_error(consumer):
        pass
    assert not consumer.closed


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
@pytest.mark.parametrize(("name", "meant"), [("sesion_timeout_ms", "session"), ("security_protocl", "security")])
def test_a_clients_setting_that_is_misspelt_is_told_what_was_probably_meant(client: str, name: str, meant: str) -> None:
    with pytest.raises(UsageError, match=rf"^kafka\.{name}: {client} has no such setting: did you mean '{meant}"):
        get_admin(config_for("127.0.0.1:1", client=client, kafka={name: "SSL"}))
