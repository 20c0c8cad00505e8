"""What would destroy counts is refused until somebody says so; what may be wrong is marked until it is closed."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from brokers import config_for
from fake_counter import Counter
from fakes import FakeKafka, FakeStop

from unique_users.aggregation.completeness import UNTIL_KNOWN, Gap, Why
from unique_users.errors import UsageError
from unique_users.event_time.buckets import Bucket, Calendar, bucket_timestamp
from unique_users.messages.merged_counts import PublishedBucket
from unique_users.state.snapshot import SavedState

DAY = 86_400
JUNE = int(datetime.fromisoformat("2016-06-30T12:00:00Z").timestamp())
JULY = JUNE + 3 * DAY
MONTHS = [Bucket("month", Calendar().start("month", at)) for at in (JUNE, JULY)]
LOST, DELETED, LATE = Why.STATE_LOST, Why.RECORDS_DELETED, Why.FILLED_LATE


def go_on(counter: Counter, steps: int = 3) -> None:
    for _ in range(steps):
        counter.step()
        counter.clock.advance(1)


def restart(counter: Counter, drop: list[str] | None = None, **rules: Any) -> None:
    """Kill it, and start it with other rules."""
    counter.crash()
    counter.config = config_for("fake:1", counter=rules, state={"directory": counter.config.state.directory})
    counter.drop = drop or []
    counter.start()


def refusal(counter: Counter, **rules: Any) -> str:
    """What a start with these rules says; nothing may have changed by it."""
    counter.crash()
    state = Path(counter.config.state.directory)
    before = {path: path.read_bytes() for path in state.glob("*.sqlite")}
    published = counter.kafka.values("counts")
    restart(counter, **rules)
    with pytest.raises(UsageError) as refused:
        go_on(counter)
    assert refused.value.exit_code == 2
    assert {path: path.read_bytes() for path in state.glob("*.sqlite")} == before
    assert counter.kafka.values("counts") == published
    return str(refused.value)


@pytest.fixture
def monthly(kafka: FakeKafka, stop: FakeStop, tmp_path: Path) -> Counter:
    """June 30: 2 users | July 3: 101 users; the minute of June is past its retention, its month is not dropped yet"""
    counter = Counter(kafka, tmp_path / "state", stop, retention_seconds=2 * DAY, intervals=["minute", "month"])
    counter.step()
    for uid in "ab":
        counter.put(uid, JUNE)
    go_on(counter)
    for number in range(101):
        counter.put(f"u{number}", JULY)
    counter.bucketers_are_at(JULY)
    go_on(counter)
    return counter


def test_an_interval_that_the_configuration_forgot_is_not_dropped(monthly: Counter) -> None:
    said = refusal(monthly, retention_seconds=2 * DAY)
    assert "month: 1 bucket, 101 users (put month back into counter.intervals to keep them, or start with" in said
    assert said.endswith("--drop month)")
    restart(monthly, retention_seconds=2 * DAY, intervals=["minute", "month"])
    go_on(monthly)
    assert monthly.all_held()[MONTHS[1]] == 101


def test_a_count_is_deleted_from_counts_when_it_was_dropped_and_filled_late_says_so(monthly: Counter) -> None:
    """month: 101 users of July | dropped | added again after its minutes are past their retention: too low, marked"""
    restart(monthly, ["month"], retention_seconds=2 * DAY)
    go_on(monthly)
    assert MONTHS[1] not in monthly.all_published()
    assert MONTHS[0] in monthly.all_published(), "what was closed before stays"
    for number in range(101):
        monthly.put(f"v{number}", JULY + 3 * DAY)
    monthly.bucketers_are_at(JULY + 3 * DAY)
    go_on(monthly)
    restart(monthly, retention_seconds=2 * DAY, intervals=["minute", "month"])
    go_on(monthly)
    assert monthly.read_published()[MONTHS[1]] == PublishedBucket(101, (LATE,))
    for number in range(101):
        monthly.put(f"v{number}", JULY + 33 * DAY)
    monthly.bucketers_are_at(JULY + 33 * DAY)
    go_on(monthly, 6)
    august = Bucket("month", Calendar().start("month", JULY + 33 * DAY))
    assert monthly.read_published()[august] == PublishedBucket(101), "the next month is whole"
    (ledger,) = monthly.counting.partitions.open.values()
    assert ledger.facts.gaps == (), "July is closed, no bucket can be of it any more"


def test_what_is_filled_from_all_minutes_is_not_said_to_be_too_low(
    kafka: FakeKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counter = Counter(kafka, tmp_path / "state")
    counter.step()
    counter.put("a", JULY)
    go_on(counter)
    restart(counter, intervals=["minute", "hour"])
    go_on(counter)
    assert "bucketed-0: filled from the saved state: hour\n" in capsys.readouterr().err
    counter.crash()


def test_a_tombstone_that_a_crash_kept_from_being_sent_is_sent_by_the_next_start(monthly: Counter) -> None:
    restart(monthly, ["month"], retention_seconds=2 * DAY)
    monthly.step()
    assert MONTHS[1] in monthly.all_published()
    restart(monthly, retention_seconds=2 * DAY)
    go_on(monthly)
    assert MONTHS[1] not in monthly.all_published()


def test_a_key_that_is_counted_again_is_deleted_right_before_its_new_count_and_never_after(monthly: Counter) -> None:
    """month dropped | crash before its tombstone | month filled again | published | a restart sends no tombstone"""
    restart(monthly, ["month"], retention_seconds=2 * DAY)
    monthly.step()
    restart(monthly, retention_seconds=2 * DAY, intervals=["minute", "month"])
    go_on(monthly)
    key = f"month:{MONTHS[1].start}:0".encode()
    assert [r.value is None for r in monthly.kafka.records("counts") if r.key == key][-2:] == [True, False]
    restart(monthly, retention_seconds=2 * DAY, intervals=["minute", "month"])
    go_on(monthly)
    assert [r.value is None for r in monthly.kafka.records("counts") if r.key == key].count(True) == 1
    assert monthly.all_published()[MONTHS[1]] == 101


def test_another_zone_and_an_estimate_for_an_exact_count_are_refused_and_then_replace_the_old_ones(
    kafka: FakeKafka, tmp_path: Path
) -> None:
    counter = Counter(kafka, tmp_path / "state", intervals=["minute", "day", "week"])
    counter.step()
    counter.put("a", JULY)
    go_on(counter)
    rules: dict[str, Any] = {"intervals": ["minute", "day", "week"], "timezone": "Asia/Tokyo", "estimates": ["week"]}
    said = refusal(counter, **rules)
    assert "day: 1 bucket, 1 users (set counter.timezone to UTC to keep them, or start with --drop day)" in said
    assert "week: 1 bucket, 1 users (set counter.timezone to UTC and take week out of counter.estimates" in said
    restart(counter, ["day"], **rules)
    with pytest.raises(UsageError, match=r"would drop .*: week: [^;]*$"):
        go_on(counter)
    restart(counter, ["day", "week"], **rules)
    go_on(counter)
    tokyo = Calendar("Asia/Tokyo")
    wanted = {Bucket(name, tokyo.start(name, JULY)) for name in ("minute", "day", "week")}
    assert set(counter.all_published()) == wanted
    assert "--drop day" in refusal(counter, intervals=["minute", "day", "week"], estimates=["week"])
    counter.crash()


def test_a_shorter_retention_is_refused_where_minutes_would_go_by_it_and_a_longer_one_never(
    kafka: FakeKafka, tmp_path: Path
) -> None:
    counter = Counter(kafka, tmp_path / "state", retention_seconds=3 * DAY)
    counter.step()
    for number in range(202):
        counter.put(f"u{number}", JUNE + number % 2 * 2 * DAY)
    go_on(counter)
    said = refusal(counter, retention_seconds=DAY)
    assert "retention: 1 bucket, 101 users (set counter.retention_seconds to 259200 or more to keep them" in said
    restart(counter, retention_seconds=0)
    go_on(counter)
    assert "set counter.retention_seconds to 0 to keep them" in refusal(counter, retention_seconds=DAY)
    restart(counter, ["retention"], retention_seconds=DAY)
    for _ in range(101):
        counter.put("u", JUNE + 2 * DAY)
    counter.bucketers_are_at(JUNE + 2 * DAY)
    go_on(counter, 4)
    assert counter.held() == {JUNE + 2 * DAY: 102}
    assert counter.published()[JUNE] == 101, "what was published and is past its retention stays"
    restart(counter, retention_seconds=DAY)
    go_on(counter)
    counter.crash()


def test_nothing_of_one_partition_changes_when_another_one_is_refused(kafka: FakeKafka, tmp_path: Path) -> None:
    kafka.topics.pop("bucketed")
    kafka.create("bucketed", partitions=3)
    rules: dict[str, Any] = {"intervals": ["minute", "hour"]}
    counter = Counter(kafka, tmp_path / "state", **rules)
    counter.config = config_for(
        "fake:1", counter=rules, bucketer={"partition_by": "uid"}, state={"directory": str(tmp_path / "state")}
    )
    counter.start()
    counter.step()
    counter.put("a", JULY, 2)  # the others have nothing to lose
    go_on(counter)
    assert "hour: 1 bucket, 1 users" in refusal(counter)


def trimmed(counter: Counter, before: int) -> None:
    """Lose the state and the start of the topic."""
    counter.crash()
    for path in Path(counter.config.state.directory).glob("*.sqlite*"):
        path.unlink()
    counter.kafka.trim("bucketed", 0, before)


def test_a_lost_state_and_a_trimmed_topic_are_marked_where_it_stands_until_it_is_whole(
    monthly: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    trimmed(monthly, 2)
    monthly.start()
    go_on(monthly)
    minute = Bucket("minute", JULY)
    assert monthly.read_published()[minute] == PublishedBucket(101, (LOST,))
    assert "not whole" in capsys.readouterr().err
    restart(monthly, retention_seconds=2 * DAY, intervals=["minute", "month"])
    go_on(monthly)
    (ledger,) = monthly.counting.partitions.open.values()
    assert [ledger.why(bucket) for bucket in (minute, MONTHS[1])] == [(LOST,), (LOST,)], "persisted"
    now = int(monthly.clock.wall()) // 60 * 60
    assert not ledger.why(Bucket("minute", now + 10_800)), "of frames that came later"
    monthly.finish("json")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["why"] for line in lines if "interval" in line] == [["state_lost"]] * 2
    with SavedState(Path(monthly.config.state.directory), "bucketed", 0) as state:
        assert {gap.why for gap in state.facts.gaps} == {LOST}


def test_what_a_trimmed_topic_lacks_is_not_forgotten_by_a_crash_before_its_first_record(monthly: Counter) -> None:
    """state lost, all records deleted | saved without one | crash | the next record"""
    trimmed(monthly, 103)
    monthly.start()
    go_on(monthly)
    restart(monthly, retention_seconds=2 * DAY, intervals=["minute", "month"])
    go_on(monthly)
    (ledger,) = monthly.counting.partitions.open.values()
    assert ledger.facts.gaps == (Gap("", 0, UNTIL_KNOWN, LOST),)
    monthly.put("c", JULY)
    go_on(monthly)
    at = int(monthly.kafka.records("bucketed")[-1].timestamp_ms // 1000)
    assert ledger.facts.gaps == (Gap("", 0, at + 7_200, LOST),)
    assert monthly.read_published()[Bucket("minute", JULY)].why == (LOST,)


@pytest.mark.parametrize("runs", [True, False], ids=["while it runs", "while it is stopped"])
def test_records_deleted_unread_are_marked_from_the_floor_on(monthly: Counter, *, runs: bool) -> None:
    if not runs:
        monthly.crash()
    monthly.put("x", JULY)
    monthly.put("y", JULY)
    monthly.kafka.trim("bucketed", 0, 104)
    if not runs:
        monthly.start()
    go_on(monthly)
    (ledger,) = monthly.counting.partitions.open.values()
    at = int(monthly.kafka.records("bucketed")[-1].timestamp_ms // 1000)
    assert ledger.facts.gaps == (Gap("", ledger.floor, at + 7_200, DELETED),)
    assert monthly.read_published()[Bucket("minute", JULY)] == PublishedBucket(102, (DELETED,))


def test_what_one_partition_lacks_marks_what_the_other_counts(kafka: FakeKafka, tmp_path: Path) -> None:
    """uid 0: a, counted | uid 1: b deleted before it was read, so it has no count of the minute"""
    kafka.topics.pop("bucketed")
    kafka.create("bucketed", partitions=2)
    counter = Counter(kafka, tmp_path / "state")
    counter.step()
    counter.put("a", JULY, 0)
    counter.put("b", JULY, 1)
    counter.put("c", JULY + 60, 1)
    kafka.trim("bucketed", 1, 1)
    go_on(counter)
    assert counter.read_published()[Bucket("minute", JULY)] == PublishedBucket(1, (DELETED,))
    go_on(counter)
    assert [r.key for r in kafka.records("counts")].count(b"gaps:1") == 1
    later = kafka.records("bucketed", 1)[-1].timestamp_ms // 1_000 + 9 * DAY
    for partition in (0, 1):
        counter.put(f"d{partition}", bucket_timestamp(later), partition)
    counter.bucketers_are_at(later)
    go_on(counter, 6)
    assert counter.held() == {bucket_timestamp(later): 2}, "the minute is closed"
    assert counter.read_published()[Bucket("minute", JULY)] == PublishedBucket(1, (DELETED,))
    counter.crash()


def test_a_mark_that_comes_later_is_published_and_again_changes_nothing(monthly: Counter) -> None:
    (ledger,) = monthly.counting.partitions.open.values()
    gap = Gap("", JULY, JULY + 60, DELETED)
    ledger.mark([gap])
    assert ledger.unpublished == {Bucket("minute", JULY), MONTHS[1]}
    go_on(monthly)
    assert monthly.read_published()[Bucket("minute", JULY)] == PublishedBucket(101, (DELETED,))
    facts = ledger.facts
    ledger.mark([gap])
    assert (ledger.facts, ledger.unpublished) == (facts, set()), "known"
    gone = Gap("", 0, JUNE - 90 * DAY, DELETED)
    ledger.mark([gone])
    assert (ledger.facts.gaps, ledger.unpublished) == (facts.gaps, set()), "no bucket is there any more"
    assert gone in ledger.facts.former_gaps, "for the buckets of others"


def test_a_report_marks_what_was_dropped_since_the_last_one(
    monthly: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    (ledger,) = monthly.counting.partitions.open.values()
    monthly.counting.report()
    ledger.mark([Gap("", JULY, JULY + 60, LOST)])
    monthly.put("z", JULY)
    for number in range(101):
        monthly.put(f"v{number}", JULY + 4 * DAY)
    monthly.bucketers_are_at(JULY + 4 * DAY)
    go_on(monthly, 6)
    capsys.readouterr()
    monthly.counting.report()
    said = capsys.readouterr().out
    assert "2016-07-03T12:00:00Z  minute  102 unique users  +1  not whole: state lost\n" in said


def test_a_topic_made_again_begins_a_generation_that_is_newer_though_the_clock_was_set_back(monthly: Counter) -> None:
    assert monthly.published()[JULY] == 101
    old = {json.loads(value or b"")["generation"] for value in monthly.kafka.values("counts")}
    monthly.crash()
    monthly.kafka.delete("bucketed")
    monthly.kafka.create("bucketed")
    monthly.put_users.clear()
    monthly.put("x", JULY)
    monthly.clock._wall_at_start -= 7_200
    monthly.start()
    go_on(monthly)
    assert monthly.published() == {JULY: 1}
    assert min(old) < max(json.loads(value or b"")["generation"] for value in monthly.kafka.values("counts"))
