"""What of librdkafka no broker can be made to do at will."""

import json
from typing import Any

import pytest
from brokers import config_for
from confluent_kafka import KafkaError, KafkaException

from unique_users.clients.librdkafka.errors import explained, explained_error
from unique_users.clients.librdkafka.producer import LibrdkafkaProducer
from unique_users.clients.librdkafka.stall_detection import Stuck
from unique_users.errors import BrokerAwayError, BrokerError, DeliveryError


def test_a_connection_that_was_given_up_means_a_broker_that_is_away_and_a_misuse_of_the_client_does_not() -> None:
    config = config_for("broker:1")
    assert isinstance(explained_error(config, KafkaError(KafkaError._DESTROY_BROKER)), BrokerAwayError)
    for code in (KafkaError._DESTROY, KafkaError._STATE, KafkaError._INVALID_ARG):
        assert not isinstance(explained_error(config, KafkaError(code)), BrokerAwayError)


def raise_fatal() -> None:
    """As the client does where it calls back, and calls on."""
    fatal = KafkaException(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "desynchronized", fatal=True))
    raise SystemError("returned a result with an exception set") from fatal


def test_a_fatal_error_that_comes_while_the_client_calls_back_is_told_as_any_other() -> None:
    with pytest.raises(BrokerError, match="desynchronized"), explained(config_for("broker:1")):
        raise_fatal()
    with pytest.raises(SystemError, match="another"), explained(config_for("broker:1")):
        raise SystemError("another")


class FatalClient:
    """A producer of librdkafka that has met a fatal error."""

    def poll(self, _timeout: float) -> None:
        raise_fatal()

    flush = poll


def test_a_fatal_error_of_a_producer_is_one_of_delivery() -> None:
    producer = LibrdkafkaProducer.__new__(LibrdkafkaProducer)
    producer._config = config_for("fake:1", client="librdkafka")
    producer._producer = FatalClient()
    producer._failure = None
    producer._waiting = []  # type: ignore[assignment]
    producer._stuck = Stuck()
    with pytest.raises(DeliveryError, match="desynchronized"):
        producer.backpressure_eased(0)
    with pytest.raises(DeliveryError, match="desynchronized"):
        producer.flush(0)


class Cluster:
    """A client whose brokers name the leader of each partition of the topic t."""

    def __init__(self, *leaders: int) -> None:
        self.leaders = leaders

    def list_topics(self, topic: str, timeout: float) -> Any:  # noqa: ARG002
        partitions = {p: type("Partition", (), {"id": p, "leader": at}) for p, at in enumerate(self.leaders)}
        return type("Metadata", (), {"topics": {topic: type("Topic", (), {"partitions": partitions})}})


def statistics(*waiting: tuple[int, int]) -> str:
    """Of the partitions of the topic t: the leader that the client has, and the records that wait for it."""
    partitions = {
        str(p): {"partition": p, "leader": leader, "msgq_cnt": count, "xmit_msgq_cnt": 0}
        for p, (leader, count) in enumerate(waiting)
    }
    nowhere = {"-1": {"partition": -1, "leader": -1, "msgq_cnt": 1, "xmit_msgq_cnt": 0}}
    return json.dumps({"topics": {"t": {"partitions": partitions | nowhere}}})


LOST, FOUND, IDLE = statistics((1, 5), (-1, 5)), statistics((1, 5), (1, 5)), statistics((-1, 0), (-1, 0))


@pytest.mark.parametrize(
    ("story", "stuck"),
    [
        ("LL? LL?", True),
        ("LLLLL? LL?", True),
        ("LL? L?", False),
        ("LL? LF LL?", False),
        ("LL? FLL? F", False),
        ("LI LI ?", False),
        ("L?", False),
    ],
)
def test_records_are_stuck_when_the_client_does_not_learn_of_a_leader_that_the_brokers_have_named(
    story: str,
    stuck: bool,  # noqa: FBT001
) -> None:
    heard, found = Stuck(), frozenset[tuple[str, int]]()
    for letter in story.replace(" ", ""):
        if letter == "?":
            found = heard.for_good(Cluster(1, 1), 1)
        else:
            heard({"L": LOST, "F": FOUND, "I": IDLE}[letter])
    assert found == ({("t", 1)} if stuck else set())


def test_records_for_a_partition_that_no_broker_leads_are_waited_for() -> None:
    heard = Stuck()
    for _ in range(5):
        heard(LOST)
        heard(LOST)
        assert not heard.for_good(Cluster(1, -1), 1)
