"""The counter's report comes in time, and names what was deleted, unreadable or missing."""

from pathlib import Path

import pytest
from fake_counter import MINUTE, Counter
from fakes import FakeKafka

LEFT = "buckets changed"  # in the line that every report has


def test_records_deleted_before_they_were_read_are_named(counter: Counter, capsys: pytest.CaptureFixture[str]) -> None:
    for uid in "abcd":
        counter.put(uid)
    counter.step()
    counter.clock.advance(1)
    counter.step()
    counter.crash()
    for uid in "efg":
        counter.put(uid)
    counter.kafka.trim("bucketed", 0, 6)
    counter.start()
    counter.step(2)
    assert counter.held() == {MINUTE: 5}
    assert "offsets 4 to 5" in capsys.readouterr().err


def test_records_of_other_programs_are_counted_in_the_report_and_not_as_users(
    counter: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    counter.put("a")
    counter.kafka.append("bucketed", b"hello", None, key=b"60")
    counter.kafka.append("bucketed", b'{"uid":"x"}', key=b"not a minute")
    counter.step()
    capsys.readouterr()
    counter.counting.report()
    out = capsys.readouterr().out
    assert out.splitlines()[0].endswith("1 unique users  +1")
    assert "4 messages read (+4)" in out
    assert "1 buckets changed" in out
    assert "3 unreadable messages skipped" in out


def test_records_that_cannot_be_unpacked_are_passed_and_said(
    counter: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    counter.put("a")
    counter.kafka.append_unreadable("bucketed", 3, "it unpacks to too much")
    counter.put("b")
    counter.step()
    counter.counting.report()
    out, err = capsys.readouterr()
    assert counter.held() == {MINUTE: 2}
    assert "5 messages read (+5)" in out
    assert "3 unreadable messages skipped" in out
    assert "bucketed-0: skipping offsets 1 to 3: it unpacks to too much" in err


# Reports.


def test_a_report_holds_what_changed_since_the_last_one_oldest_first(
    counter: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    for uid in "ab":
        counter.put(uid, MINUTE + 60)
    counter.put("a", MINUTE)
    counter.step()
    counter.counting.report()
    first = capsys.readouterr().out.splitlines()
    assert first[:2] == [
        "2016-07-11T13:39:00Z  minute  1 unique users  +1",
        "2016-07-11T13:40:00Z  minute  2 unique users  +2",
    ]
    assert "3 messages read (+3)" in first[2]
    assert "2 buckets changed, lag 0" in first[3]
    counter.put("c", MINUTE)
    counter.put("a", MINUTE + 60)
    counter.step()
    counter.counting.report()
    second = capsys.readouterr().out.splitlines()
    assert second[0] == "2016-07-11T13:39:00Z  minute  2 unique users  +1"
    assert "5 messages read (+2)" in second[1]
    assert "1 buckets changed, lag 0" in second[2]
    assert len(second) == 3


def reports(counter: Counter, seconds: float, capsys: pytest.CaptureFixture[str]) -> list[tuple[float, str]]:
    """What was said to be left in so many seconds, and when."""
    printed = []
    end = counter.clock.monotonic() + seconds
    while counter.clock.monotonic() < end:
        counter.counting.step()
        printed += [(counter.clock.monotonic(), line) for line in capsys.readouterr().out.splitlines() if LEFT in line]
    return printed


def test_a_report_comes_every_60_seconds_also_when_nothing_came(
    counter: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = reports(counter, 301, capsys)
    assert [at for at, _ in printed] == pytest.approx([60, 120, 180, 240, 300], abs=1)
    assert all(line.endswith("report  0 buckets changed, lag 0") for _, line in printed)


@pytest.mark.parametrize("unsaved", [False, True], ids=["idle", "with something to save"])
def test_a_report_comes_every_60_seconds_also_when_the_broker_is_away(
    counter: Counter,
    unsaved: bool,  # noqa: FBT001
    capsys: pytest.CaptureFixture[str],
) -> None:
    if unsaved:
        counter.put("a")
        counter.step()
    counter.kafka.away = True
    printed = reports(counter, 305, capsys)
    first = [1] if unsaved else []  # comes as soon as something is saved
    assert [at for at, _ in printed] == pytest.approx([*first, 60, 120, 180, 240, 300], abs=4)
    assert all("no answer from the broker" in line for _, line in printed)


def test_a_report_comes_in_time_when_records_never_stop(counter: Counter, capsys: pytest.CaptureFixture[str]) -> None:
    counter.kafka.records_per_poll = 1
    printed = []
    while counter.clock.monotonic() < 121:
        counter.put("a")
        counter.step()
        counter.clock.advance(0.4)
        printed += [counter.clock.monotonic() for line in capsys.readouterr().out.splitlines() if LEFT in line]
    assert printed == pytest.approx([1, 60, 120], abs=1), "the first as soon as something is saved"


def test_a_report_says_which_partitions_it_speaks_for(
    kafka: FakeKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kafka.create("bucketed", partitions=2)
    counter = Counter(kafka, tmp_path)
    counter.step()
    counter.counting.report()
    assert capsys.readouterr().out.endswith("lag 0\n")
    other = Counter(kafka, tmp_path / "other")
    kafka.group("counter", "bucketed").members.append(other.consumer)
    kafka.assign({counter.consumer: [1], other.consumer: [0]})
    counter.step()
    counter.counting.report()
    assert capsys.readouterr().out.endswith("lag 0, partition 1 of 2\n")
    counter.crash()


def test_the_lag_of_a_bucketed_that_is_gone_is_not_0(counter: Counter, capsys: pytest.CaptureFixture[str]) -> None:
    counter.kafka.delete("bucketed")
    counter.counting.report()
    assert "0 buckets changed, no topic 'bucketed'" in capsys.readouterr().out
