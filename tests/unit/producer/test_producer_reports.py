"""The producer's report says what was acknowledged, as the other scripts' reports do."""

import json
from collections.abc import Iterable

import pytest
from fakes import FakeClock, FakeKafka, FakeProducer, FakeStop

from unique_users.messages.frame import CutLine
from unique_users.producer.replay import Replay
from unique_users.producer.reporter import Reporter
from unique_users.reports.stdout import Stdout


class File:
    """A file of which two blank lines were left out."""

    blank_lines = 2


@pytest.fixture
def replayed(kafka: FakeKafka, clock: FakeClock, stop: FakeStop) -> tuple[Replay, Reporter]:
    blocks: Iterable[list[bytes]] = [[b"%d" % n] for n in range(10)] + [[CutLine(b"long", 4_000_000)]]
    replay = Replay(blocks, lambda: FakeProducer(kafka), ("feed", "rejected"), stop, clock.monotonic)
    replay.open()
    file = File()
    return replay, Reporter(60, file, replay, [Stdout("json")], clock.monotonic, clock.wall)  # type: ignore[arg-type]


def test_what_was_acknowledged_is_reported_and_what_is_too_long_is_rejected(
    replayed: tuple[Replay, Reporter], clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    replay, reporter = replayed
    for _ in range(5):
        replay.step()
    assert not reporter.due(), "nothing is acknowledged yet"
    replay.flush()
    assert reporter.due(), "the first time as soon as there is something to say"
    clock.advance(2)
    reporter.report()
    assert not reporter.due()
    clock.advance(60)
    assert reporter.due()
    while replay.step():
        pass
    replay.flush()
    reporter.report()
    first, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["read"], first["new"], first["frames"]["rejected"]) == (5, 5, {})
    assert (last["read"], last["new"], last["blank_lines"]) == (11, 6, 2)
    assert last["frames"] == {"read": 11, "accepted": 10, "rejected": {"too_large": 1}}
