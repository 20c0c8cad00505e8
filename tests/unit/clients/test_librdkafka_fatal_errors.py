"""What librdkafka makes of a broker that was restored: an error that ends its producer, told in several ways."""

from collections.abc import Callable

import pytest
from brokers import config_for
from confluent_kafka import KafkaError, KafkaException

from unique_users.clients.librdkafka import producer as module
from unique_users.clients.librdkafka.producer import LibrdkafkaProducer
from unique_users.errors import DeliveryError

LOST = KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "sequence desynchronization", fatal=True)


class Client:
    """Raises where librdkafka would; `told` is what it has called back before."""

    def __init__(self, error: Exception, told: Callable[[], None] = lambda: None) -> None:
        self._error = error
        self._told = told

    def poll(self, _seconds: float) -> int:
        self._told()
        raise self._error

    flush = poll

    def list_topics(self, *_arguments: object, **_settings: object) -> None:
        """Answers."""


def raised_from(cause: Exception) -> SystemError:
    error = SystemError("a callback returned a result with an exception set")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KafkaException(LOST), "OUT_OF_ORDER_SEQUENCE_NUMBER: sequence"),
        (raised_from(KafkaException(LOST)), "OUT_OF_ORDER_SEQUENCE_NUMBER: sequence"),
        (SystemError("flush returned NULL without setting an exception"), "cannot be used any more"),
    ],
)
def test_a_producer_that_cannot_go_on_says_that_records_did_not_arrive(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.setattr(module, "built", lambda *_: Client(error))
    producer = LibrdkafkaProducer(config_for("fake:1", client="librdkafka"), "none")
    for ask in (producer.flush, producer.backpressure_eased):
        with pytest.raises(DeliveryError, match=said):
            ask(1.0)


def test_what_it_said_of_a_record_before_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(SystemError("flush returned NULL"), lambda: producer._on_failure(LOST, None))
    monkeypatch.setattr(module, "built", lambda *_: client)
    producer = LibrdkafkaProducer(config_for("fake:1", client="librdkafka"), "none")
    with pytest.raises(DeliveryError, match="OUT_OF_ORDER_SEQUENCE_NUMBER"):
        producer.flush(1.0)
