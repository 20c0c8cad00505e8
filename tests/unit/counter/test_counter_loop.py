"""The counter's loop: no order of faults changes a count, and every end saves, publishes and reports."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from fake_counter import MINUTE, Counter
from fakes import FakeAdmin, FakeClock, FakeKafka, FakeStop
from hypothesis import example, given, settings
from hypothesis import strategies as st

CRASH, SAVE, EVICT, AWAY, BACK, REFUSE = "CRASH", "SAVE", "EVICT", "AWAY", "BACK", "REFUSE"


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_users_are_counted_once_in_each_minute(counter: Counter) -> None:
    for uid in "aabca":
        counter.put(uid)
    counter.put("a", MINUTE + 60)
    counter.step()
    assert counter.held() == {MINUTE: 3, MINUTE + 60: 1}


@pytest.mark.parametrize(
    "events",
    [
        [1, 2, CRASH, 3],
        [1, SAVE, 2, CRASH, 3],
        [1, 2, SAVE, CRASH, 1, 2],
        [1, CRASH, CRASH, 2, SAVE, 3, CRASH],
        [1, EVICT, 2, SAVE, EVICT, 3],
        [1, AWAY, SAVE, CRASH, BACK, 2],
        [1, REFUSE, SAVE, 2, SAVE, CRASH],
        [0, SAVE, AWAY, EVICT, BACK, 0],
    ],
)
def test_a_crash_changes_no_count(kafka: FakeKafka, tmp_path: Path, events: list[int | str]) -> None:
    run_events(Counter(kafka, tmp_path), events)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 5) | st.sampled_from([CRASH, SAVE, EVICT, AWAY, BACK, REFUSE]), max_size=20))
@example([0, SAVE, 1, CRASH, 0, SAVE, EVICT, 2, SAVE])
def test_no_order_of_faults_changes_a_count(events: list[int | str]) -> None:
    kafka = FakeKafka(FakeClock())
    kafka.create("bucketed", partitions=2)
    kafka.create("counts")
    kafka.records_per_poll = 2
    with TemporaryDirectory() as directory:
        run_events(Counter(kafka, Path(directory)), events)


def run_events(counter: Counter, events: list[int | str]) -> None:
    """Put a record for each number, inject each fault, and step after each; then finish and look."""
    partitions = len(counter.kafka.topics["bucketed"].partitions)
    newest: dict[int, int] = {}
    runs = True
    for number, event in enumerate(events):
        if event == CRASH:
            counter.crash()
            runs = False
        elif event == SAVE:
            counter.clock.advance(1)
        elif event == REFUSE:
            counter.kafka.refuse_after = number % 2
        elif event == EVICT:
            counter.evict()
        elif event in (AWAY, BACK):
            counter.kafka.away = event == AWAY
        else:
            bucket = MINUTE + 60 * (int(event) % 3)
            counter.put(f"u{event}", bucket, bucket // 60 % partitions)
        if not runs and not counter.kafka.away:
            counter.start()
            runs = True
        if runs:
            counter.counting.step()
        for bucket, count in counter.published().items():
            assert count <= counter.expected()[bucket]
            assert count >= newest.get(bucket, 0), "a published count never goes down"
            newest[bucket] = count
    counter.kafka.away, counter.kafka.refuse_after = False, None
    counter.finish()
    assert counter.published() == counter.expected()
    with_state = counter.expected()
    counter.start({0: 0})
    counter.counting.step()
    counter.counting.step()
    assert counter.held() == with_state, "what the state holds after all"
    counter.crash()


def test_until_caught_up_reports_once_at_its_end_and_everything_it_holds(
    counter: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    """records  a b | CRASH |  b c   | --until-caught-up |   d (too late)"""
    counter.kafka.records_per_poll = 1
    for uid in "ab":
        counter.put(uid)
    counter.put("a", MINUTE + 60)
    counter.step(3)
    counter.clock.advance(1)
    counter.step()
    counter.crash()
    counter.put("b")
    counter.put("c")
    capsys.readouterr()
    counter.start({0: 5}, "json")
    counter.put("d")
    counter.clock.advance(120)
    steps = 0
    while counter.counting.step():
        counter.clock.advance(61)
        steps += 1
        assert steps < 20
    assert capsys.readouterr().out == "", "once at its end"
    counter.counting.close()
    lines = json_lines(capsys.readouterr().out)
    assert [(line["start"], line["unique_users"], line["new"]) for line in lines[:-1]] == [
        ("2016-07-11T13:39:00Z", 3, 3),
        ("2016-07-11T13:40:00Z", 1, 1),
    ]
    assert lines[-1]["new"] == 2
    assert lines[-1]["lag"] == 1


def test_until_caught_up_ends_at_once_where_the_topic_is_empty(
    counter: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    counter.finish()
    (line,) = json_lines(capsys.readouterr().out)
    assert line["new"] == 0


def test_a_stop_saves_publishes_reports_and_leaves_the_group(
    counter: Counter, stop: FakeStop, capsys: pytest.CaptureFixture[str]
) -> None:
    counter.put("a")
    counter.step()
    stop.request()
    assert not counter.counting.step()
    counter.counting.close()
    assert "1 unique users  +1" in capsys.readouterr().out
    assert counter.published() == {MINUTE: 1}
    assert counter.consumer.closed
    assert FakeAdmin(counter.kafka).lag("counter", "bucketed") == 0


def test_a_stop_while_the_broker_is_away_saves_and_ends_in_under_10_seconds(counter: Counter, stop: FakeStop) -> None:
    counter.put("a")
    counter.step()
    counter.kafka.away = True
    stop.request()
    before = counter.clock.monotonic()
    counter.counting.close()
    assert counter.clock.monotonic() - before < 10
    counter.kafka.away = False
    counter.stop = FakeStop(counter.clock)
    counter.finish()
    assert counter.published() == {MINUTE: 1}


def test_counts_that_cannot_be_published_at_the_end_are_not_passed_over_in_silence(
    counter: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    counter.put("a")
    counter.step()
    counter.kafka.refuse_after = 0
    counter.counting.close()
    assert counter.published() == {MINUTE: 1} or "publish" in capsys.readouterr().err
