"""What the doctor says of transactions while frames come."""

from collections.abc import Callable

import pytest
from brokers import config_for
from fakes import FakeAdmin, FakeConsumer, FakeKafka

from unique_users.doctor.examination import Clock, Examination
from unique_users.doctor.finding import Finding
from unique_users.doctor.flow import look_at_transactions


class BusyAdmin(FakeAdmin):
    """A frame comes before each of its answers."""

    def __init__(self, kafka: FakeKafka) -> None:
        super().__init__(kafka)
        self._kafka = kafka

    def high_watermark_offsets(self, topic: str) -> dict[int, int]:
        self._kafka.append(topic, b"{}")
        return super().high_watermark_offsets(topic)

    def stable_ends(self, topic: str) -> dict[int, int]:
        self._kafka.append(topic, b"{}")
        return super().stable_ends(topic)


class Pauses(Clock):
    """A pause takes no time; something may happen in it."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self._meanwhile = meanwhile

    def pause(self, seconds: float) -> None:
        assert seconds > 0
        self._meanwhile()


def looked_at(kafka: FakeKafka, meanwhile: Callable[[], None]) -> Finding:
    examination = Examination(
        config_for("fake:1"),
        lambda: BusyAdmin(kafka),
        lambda topic: FakeConsumer(kafka, topic, None, alone=True),
        Pauses(meanwhile),
    )
    (found,) = look_at_transactions(examination)
    return found


def test_frames_that_come_meanwhile_are_no_transaction(kafka: FakeKafka) -> None:
    assert looked_at(kafka, lambda: pytest.fail("nothing to wait for")).status == "ok"


def test_a_transaction_that_stays_open_is_named(kafka: FakeKafka) -> None:
    kafka.topics["feed"].partitions[0].open_from = 0
    found = looked_at(kafka, lambda: None)
    assert (found.status, "3, partition 0" in found.says) == ("warning", True), found.says


@pytest.mark.parametrize("next_one", [None, 2])
def test_transactions_that_end_soon_are_not(kafka: FakeKafka, next_one: int | None) -> None:
    log = kafka.topics["feed"].partitions[0]
    log.open_from = 0
    assert looked_at(kafka, lambda: setattr(log, "open_from", next_one)).status == "ok"
