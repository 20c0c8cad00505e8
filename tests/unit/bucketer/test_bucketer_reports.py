"""The bucketer's report comes in time, whatever the broker does, and its lag is true."""

import pytest
from fake_bucketer import Feed
from fakes import FakeProducer


def reports(feed: Feed, seconds: float, capsys: pytest.CaptureFixture[str]) -> list[tuple[float, str]]:
    """The lines printed in so many seconds, and when each was."""
    printed = []
    end = feed.clock.monotonic() + seconds
    while feed.clock.monotonic() < end:
        feed.bucketing.step()
        printed += [(feed.clock.monotonic(), line) for line in capsys.readouterr().out.splitlines()]
    return printed


def test_a_report_comes_every_60_seconds_also_when_nothing_came(feed: Feed, capsys: pytest.CaptureFixture[str]) -> None:
    printed = reports(feed, 301, capsys)
    assert [at for at, _ in printed] == pytest.approx([60, 120, 180, 240, 300], abs=1)
    assert {line.partition("  ")[2] for _, line in printed} == {"report  0/s, 0 frames read (+0), lag 0"}


@pytest.mark.parametrize("pending", [False, True], ids=["idle", "with frames in flight"])
def test_a_report_comes_every_60_seconds_also_when_the_broker_is_away(
    feed: Feed,
    pending: bool,  # noqa: FBT001
    capsys: pytest.CaptureFixture[str],
) -> None:
    if pending:
        feed.put("a")
    feed.step()
    feed.kafka.away = True
    printed = reports(feed, 305, capsys)
    assert [at for at, _ in printed] == pytest.approx([60, 120, 180, 240, 300], abs=3)
    assert all(line.endswith("no answer from the broker") for _, line in printed)


def test_a_report_is_in_time_also_when_the_broker_falls_silent_between_acknowledgement_and_commit(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The producer's last words were heard, then nothing is: each commit is tried in vain."""
    feed.put("a")
    feed.step()
    monkeypatch.setattr(FakeProducer, "flush", lambda *_: True)
    feed.kafka.away = True
    printed = reports(feed, 305, capsys)
    assert [at for at, _ in printed] == pytest.approx([60, 120, 180, 240, 300], abs=5)


def test_the_lag_is_what_is_not_committed(feed: Feed, capsys: pytest.CaptureFixture[str]) -> None:
    feed.kafka.records_per_poll = 1
    for uid in "abc":
        feed.put(uid)
    feed.step()
    feed.bucketing.commit()
    feed.bucketing.report()
    report, frames = capsys.readouterr().out.splitlines()
    assert report.endswith("1 frames read (+1), lag 2")
    assert frames.endswith("  frames  1 read = 1 accepted + 0 rejected")
