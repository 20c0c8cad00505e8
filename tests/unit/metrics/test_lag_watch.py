"""The watch of a group's lag knows when the broker answered last, and what a transaction leaves is no lag."""

from collections.abc import Iterator

import pytest
from fakes import FakeAdmin, FakeKafka

from unique_users.clients.protocols import Position
from unique_users.errors import BrokerError
from unique_users.messages.offset_metadata import OffsetMetadata
from unique_users.metrics.lag_watch import LagWatch


@pytest.fixture
def watch(kafka: FakeKafka) -> Iterator[LagWatch]:
    watch = LagWatch(lambda: FakeAdmin(kafka), "bucketer", "feed")
    yield watch
    watch.close()


def test_an_answer_is_noted_and_silence_changes_nothing(watch: LagWatch, kafka: FakeKafka) -> None:
    watch.look()
    answered_at = watch.answered_at
    assert answered_at is not None
    kafka.away = True
    watch.look()
    assert watch.answered_at == answered_at
    kafka.away = False
    watch.look()
    assert watch.answered_at > answered_at


def test_a_refusal_is_an_answer() -> None:
    def refuse() -> FakeAdmin:
        raise BrokerError("not authorized")

    watch = LagWatch(refuse, "bucketer", "feed")
    watch.look()
    watch.close()
    assert watch.answered_at is not None
    assert not watch.lags()


def test_a_marker_of_a_transaction_after_the_last_frame_does_not_wait(watch: LagWatch, kafka: FakeKafka) -> None:
    kafka.append("feed", b"a frame")
    kafka.append("feed", b"a marker")
    committed = kafka.group("bucketer", "feed").committed
    committed[0] = Position(1, OffsetMetadata(reached=2).text())
    watch.look()
    assert watch.lags()[0][0] == 0
    committed[0] = Position(1)
    watch.look()
    assert watch.lags()[0][0] == 1
