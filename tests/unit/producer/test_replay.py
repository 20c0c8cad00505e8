import os
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile

import pytest
from fakes import FakeClock, FakeKafka, FakeProducer, FakeStop

from unique_users.errors import InputError
from unique_users.messages.frame import CutLine
from unique_users.producer.replay import Replay, Sent

CRASH = -1


def lines_of(items: Sequence[int], block: int = 130) -> Iterator[list[bytes]]:
    """The lines of a file that is damaged at CRASH, in blocks."""
    for start in range(0, len(items), block):
        lines = [b"%d" % item for item in takewhile(lambda item: item != CRASH, items[start : start + block])]
        if lines:
            yield lines
        if len(lines) < len(items[start : start + block]):
            raise InputError("damaged here")


@pytest.fixture
def replay(kafka: FakeKafka, clock: FakeClock, stop: FakeStop) -> Callable[..., Replay]:
    """An open Replay of lines to the fake broker."""

    def build(
        lines: Iterator[list[bytes]],
        rate: float | None = None,
        new_producer: Callable[[], FakeProducer | None] = lambda: FakeProducer(kafka),
    ) -> Replay:
        replay = Replay(lines, new_producer, ("feed", "rejected"), stop, clock.monotonic, rate)
        replay.open()
        return replay

    return build


def run(replay: Replay) -> bool:
    while replay.step():
        pass
    complete = replay.flush()
    replay.close()
    return complete


@pytest.mark.parametrize("block", [1, 130, 500, 501, 2_000])
def test_every_line_arrives_in_order_and_is_counted(
    kafka: FakeKafka, replay: Callable[..., Replay], block: int
) -> None:
    sending = replay(lines_of(range(1_001), block))
    assert run(sending)
    assert kafka.values("feed") == [b"%d" % n for n in range(1_001)]
    assert {record.key for record in kafka.records("feed")} == {None}
    assert sending.sent == Sent(1_001, 0)


def test_long_lines_are_flushed_before_they_fill_the_memory(
    replay: Callable[..., Replay], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unique_users.producer.replay.FLUSH_BYTES", 1_000)
    sending = replay(iter([[b"x" * 400]] * 5))
    acknowledged = []
    while sending.step():
        acknowledged.append(sending.sent.frames)
    assert acknowledged == [0, 0, 3, 3, 3]


def test_a_line_counts_as_sent_when_it_is_acknowledged_and_not_before(
    kafka: FakeKafka, replay: Callable[..., Replay]
) -> None:
    sending = replay(lines_of(range(100)))
    assert sending.step()
    assert sending.sent == Sent(0, 0)
    assert kafka.values("feed") == []
    assert sending.flush()
    assert sending.sent == Sent(100, 0)


def test_where_no_line_is_there_yet_it_goes_on(kafka: FakeKafka, replay: Callable[..., Replay]) -> None:
    sending = replay(iter([[], [b"a"], [], [b"b"]]))
    assert run(sending)
    assert kafka.values("feed") == [b"a", b"b"]
    assert sending.sent == Sent(2, 0)


def test_no_lines_are_sent_completely(kafka: FakeKafka, replay: Callable[..., Replay]) -> None:
    assert run(replay(lines_of([])))
    assert kafka.values("feed") == []


@pytest.mark.parametrize("lines", [150, 12_000])
@pytest.mark.parametrize("arrived", [0, 1, 149])
def test_when_a_producer_fails_no_line_is_left_out(
    kafka: FakeKafka, replay: Callable[..., Replay], lines: int, arrived: int
) -> None:
    kafka.refuse_after = arrived
    sending = replay(lines_of(range(lines)))
    assert run(sending)
    assert {*kafka.values("feed")} == {b"%d" % n for n in range(lines)}
    assert sending.sent == Sent(lines, 0)
    assert len(kafka.values("feed")) <= lines + arrived, "what was flushed before is not sent again"


def test_a_producer_that_fails_again_while_lines_are_sent_again_loses_none(
    kafka: FakeKafka, replay: Callable[..., Replay]
) -> None:
    failures = iter([3, 0, 77, None])

    def new_producer() -> FakeProducer:
        kafka.refuse_after = next(failures)
        return FakeProducer(kafka)

    sending = replay(lines_of(range(500)), new_producer=new_producer)
    assert run(sending)
    assert {*kafka.values("feed")} == {b"%d" % n for n in range(500)}
    assert sending.sent == Sent(500, 0)
    assert next(failures, "used up") == "used up"


def test_the_lines_before_the_damage_are_sent(kafka: FakeKafka, replay: Callable[..., Replay]) -> None:
    sending = replay(lines_of([1, 2, CRASH, 3]))
    with pytest.raises(InputError):
        run(sending)
    assert sending.flush()
    assert kafka.values("feed") == [b"1", b"2"]
    assert sending.sent == Sent(2, 0)


def test_a_line_too_long_for_kafka_goes_to_rejected_cut_and_with_its_reason(
    kafka: FakeKafka, replay: Callable[..., Replay]
) -> None:
    sending = replay(iter([[b"a", CutLine(b"bbb", 9_000_000)], [b"c"]]))
    assert run(sending)
    assert kafka.values("feed") == [b"a", b"c"]
    (rejected,) = kafka.records("rejected")
    assert rejected.value == b"bbb"
    headers = rejected.named
    assert headers["reason"] == b"too_large"
    assert b"9000000" in headers["detail"]
    assert sending.sent == Sent(2, 1)


def test_a_stop_ends_after_what_was_handed_over_is_acknowledged(
    kafka: FakeKafka, stop: FakeStop, replay: Callable[..., Replay]
) -> None:
    sending = replay(lines_of(range(1_000)))
    assert sending.step()
    stop.request()
    assert not sending.step()
    assert sending.flush()
    assert 0 < len(kafka.values("feed")) == sending.sent.frames < 1_000


def test_a_broker_that_is_away_is_waited_for_and_said_once(
    kafka: FakeKafka, clock: FakeClock, replay: Callable[..., Replay], capsys: pytest.CaptureFixture[str]
) -> None:
    class ComesBack(FakeProducer):
        def flush(self, timeout_seconds: float) -> bool:
            kafka.away = clock.monotonic() < 100
            return super().flush(timeout_seconds)

    sending = replay(lines_of([1, 2, 3]), new_producer=lambda: ComesBack(kafka))
    assert run(sending)
    assert clock.monotonic() >= 100
    assert kafka.values("feed") == [b"1", b"2", b"3"]
    assert capsys.readouterr().err.count("waiting for the broker") == 1


def test_a_stop_while_the_broker_is_away_ends_in_a_few_seconds_and_says_that_lines_are_unsure(
    kafka: FakeKafka, clock: FakeClock, stop: FakeStop, replay: Callable[..., Replay]
) -> None:
    sending = replay(lines_of([1, 2, 3]))
    assert sending.step()
    kafka.away = True
    stop.request()
    assert not sending.flush()
    assert clock.monotonic() < 10
    assert sending.sent == Sent(0, 0)


def test_a_stop_while_no_broker_answers_sends_nothing(kafka: FakeKafka, replay: Callable[..., Replay]) -> None:
    sending = replay(lines_of([1]), new_producer=lambda: None)
    assert not sending.step()
    sending.close()
    assert kafka.values("feed") == []


@pytest.mark.parametrize("rate", [0.5, 10, 1_000])
def test_lines_go_at_the_rate_asked_for(
    kafka: FakeKafka, clock: FakeClock, replay: Callable[..., Replay], rate: float
) -> None:
    sending = replay(lines_of(range(300)), rate=rate)
    handed_over = 0
    while sending.step():
        sending.flush()
        assert len(kafka.values("feed")) <= clock.monotonic() * rate + 1 + 1e-6
        handed_over = len(kafka.values("feed"))
    assert handed_over == 300
    assert clock.monotonic() == pytest.approx(299 / rate, abs=1 + 2 / rate)


def test_the_rate_holds_when_producers_fail(kafka: FakeKafka, clock: FakeClock, replay: Callable[..., Replay]) -> None:
    failures = iter([0, 0, 0, 0, 0, None])

    def new_producer() -> FakeProducer:
        kafka.refuse_after = next(failures)
        return FakeProducer(kafka)

    sending = replay(lines_of(range(300)), rate=10, new_producer=new_producer)
    for _ in range(20):
        assert sending.step()
    sending.flush()
    assert next(failures, "used up") == "used up"
    while sending.step():
        pass
    assert sending.flush()
    assert clock.monotonic() >= 299 / 10 - 1


def test_a_line_that_feed_does_not_take_goes_to_rejected_and_the_others_arrive(
    kafka: FakeKafka, replay: Callable[..., Replay]
) -> None:
    """lines a WIDE-BUT-COMPRESSES LARGE b │ `feed` takes less than LARGE"""
    kafka.create("feed", settings={"max.message.bytes": "1500000"})
    large, wide = os.urandom(2_000_000), bytes(3_000_000)
    sending = replay(iter([[b"a", wide, large, b"b"]]), new_producer=lambda: FakeProducer(kafka, "zstd"))
    assert run(sending)
    assert set(kafka.values("feed")) == {b"a", b"b", wide}
    (record,) = kafka.records("rejected")
    assert record.value == large
    assert dict(record.headers) == {"reason": b"too_large", "detail": b"a line of 2000000 bytes, as it is"}
    assert sending.sent == Sent(3, 1)
