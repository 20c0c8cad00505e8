import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from brokers import config_for
from fakes import FakeAdmin, FakeClock, FakeConsumer, FakeKafka, FakePeek, FakeProducer, FakeStop, FakeTopics
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unique_users.aggregation.counts import Count, users_in
from unique_users.clients.protocols import Position
from unique_users.config.schema import Config
from unique_users.counter.line import Line, look
from unique_users.counter.loop import Counting
from unique_users.counter.low_watermark import LowWatermark
from unique_users.counter.partitions import CountedPartitions
from unique_users.counter.publisher import Publisher
from unique_users.counter.publishing import Publishing
from unique_users.counter.recovery import Recovery
from unique_users.counter.reporter import Reporter
from unique_users.counter.stdout import Stdout
from unique_users.errors import StateError
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.event_time.stream_clock import BLOCK, StreamClock
from unique_users.log_history.check import HistoryCheck
from unique_users.messages.counts import PublishedBucket, merged_buckets, merged_counts
from unique_users.messages.offset_metadata import OffsetMetadata, late_of
from unique_users.reports.report import Format
from unique_users.state.store import Stores

MINUTE = 1_468_244_340
CRASH, SAVE, EVICT, AWAY, BACK, REFUSE = "CRASH", "SAVE", "EVICT", "AWAY", "BACK", "REFUSE"


class FakeLine:
    """See line.LineSource: looks whenever it is asked, as far as there is a feed."""

    def __init__(self, kafka: FakeKafka, config: Config) -> None:
        self._kafka = kafka
        self._config = config
        self._low_watermark = LowWatermark(config.counter.idle_seconds)

    def current(self) -> Line | None:
        if self._kafka.away or not {"feed", "bucketed"} <= self._kafka.topics.keys():
            return None
        return look(FakeAdmin(self._kafka), self._config, self._low_watermark, self._kafka.clock.monotonic())

    def look(self) -> None:
        pass


class Counter:
    """A counter on a fake broker with a state on disk, which can be killed and started again."""

    def __init__(self, kafka: FakeKafka, directory: Path, stop: FakeStop | None = None, **rules: Any) -> None:
        self.kafka = kafka
        self.clock = kafka.clock
        self.stop = stop or FakeStop(kafka.clock)
        allowed = min(86_400, rules.get("retention_seconds", 86_400))
        self.config = config_for(
            "fake:1", bucketer={"allowed_lateness_seconds": allowed}, counter=rules, state={"directory": str(directory)}
        )
        self.put_users: defaultdict[int, set[str]] = defaultdict(set)
        self.drop: list[str] = []
        self.topics = FakeTopics(kafka, "bucketed", "counts")
        self.start()

    def start(self, until: Mapping[int, int] | None = None, form: Format = "text") -> None:
        self.consumer = FakeConsumer(self.kafka, "bucketed", "counter")
        history = HistoryCheck("bucketed", self.consumer, lambda: FakePeek(self.kafka, "bucketed"), self.kafka.answers)
        stores = Stores(Path(self.config.state.directory), self.clock.wall)
        recovery = Recovery(self.config, self.consumer, self.topics, stores, history, self.drop)
        partitions = CountedPartitions(self.config, self.consumer, self.topics, recovery, self.stop, until)
        calendar = Calendar(self.config.counter.timezone)
        line = FakeLine(self.kafka, self.config)
        self.counting = Counting(
            self.config,
            partitions,
            Publishing(
                self.config, self.topics, lambda: Publisher(FakeProducer(self.kafka), "counts", calendar, "rejected")
            ),
            Reporter(self.config, partitions, line, [Stdout(form, calendar)], self.clock.wall),
            line,
            self.stop,
        )

    def put(self, uid: str, bucket: int = MINUTE, partition: int = 0) -> None:
        """Append a record to `bucketed`."""
        self.kafka.append(
            "bucketed", b'{"uid":"%b","ts":%d}' % (uid.encode(), bucket), key=b"%d" % bucket, partition=partition
        )
        self.put_users[bucket].add(uid)

    def bucketers_are_at(self, now: int, partition: int = 0) -> None:
        """A bucketer has read a partition of `feed` to its end, whose stream clock is at `now`."""
        self.kafka.append("feed", b"a frame", partition=partition)
        clock = StreamClock(self.config.bucketer.allowed_lateness_seconds)
        clock.admit([now] * BLOCK)
        end = self.kafka.topics["feed"].partitions[partition].end
        metadata = OffsetMetadata("a-feed", clock.to_metadata())
        self.kafka.group("bucketer", "feed").committed[partition] = Position(end, metadata.text())

    def evict(self) -> None:
        if self.consumer in self.kafka.group("counter", "bucketed").members:
            self.kafka.evict(self.consumer)

    def crash(self) -> None:
        """Kill -9: what is not saved is gone, locks end, the group takes the member for dead."""
        for ledger in self.counting.partitions.open.values():
            ledger.close()
        self.evict()

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.counting.step()

    def finish(self, form: Format = "json") -> None:
        """Count to the end of `bucketed` as it is now, report everything, and close."""
        self.crash()
        ends = {p: log.end for p, log in enumerate(self.kafka.topics["bucketed"].partitions)}
        self.start(ends, form)
        for _ in range(200):
            if not self.counting.step():
                break
        else:
            pytest.fail("never caught up")
        self.counting.close()

    def held(self) -> dict[int, int]:
        """The counts of the minutes in memory."""
        return {
            bucket.start: users_in(count) for bucket, count in self.all_held().items() if bucket.interval == "minute"
        }

    def all_held(self) -> dict[Bucket, Count]:
        held = self.counting.partitions
        return {bucket: held.count(bucket) for bucket in held.buckets()}

    def published(self) -> dict[int, int]:
        return merged_counts(self.kafka.values("counts"), self.kafka.keys("counts"))

    def all_published(self) -> dict[Bucket, Count]:
        return {bucket: found.total for bucket, found in self.read_published().items()}

    def read_published(self) -> dict[Bucket, PublishedBucket]:
        return merged_buckets(self.kafka.values("counts"), self.kafka.keys("counts"))

    def expected(self) -> dict[int, int]:
        return {bucket: len(users) for bucket, users in self.put_users.items()}


@pytest.fixture
def counter(kafka: FakeKafka, stop: FakeStop, tmp_path: Path) -> Iterator[Counter]:
    """A counter that has its partition and waits for records; killed at the end, whatever became of it."""
    counter = Counter(kafka, tmp_path / "state", stop)
    counter.step()
    yield counter
    counter.crash()


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


@settings(max_examples=60, deadline=None)
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


def test_many_partitions_are_opened_with_one_question(kafka: FakeKafka, tmp_path: Path) -> None:
    kafka.create("bucketed", partitions=60)
    counter = Counter(kafka, tmp_path / "state")
    for partition in range(60):
        counter.put(f"u{partition}", partition=partition)
    counter.step(2)
    assert len(counter.counting.partitions.open) == 60
    assert counter.consumer.asked == {"bounds": 1}
    counter.crash()


def test_a_state_that_its_former_owner_saved_after_the_topic_was_asked_for_its_end_is_kept(
    counter: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    """bucketed   a | b   asked for its end after a, while the former owner counts b and saves"""
    counter.put("a")
    counter.step(2)
    counter.counting.save()
    bounds = counter.consumer.bounds([0])
    counter.put("b")
    counter.step(2)
    counter.counting.save()
    counter.crash()
    ledger = counter.counting.partitions._recovery.recover(0, bounds[0])
    assert ledger.position == 2
    assert "recreated" not in capsys.readouterr().err
    ledger.close()


def test_a_restart_reads_on_where_the_state_ends_whatever_the_group_has_committed(counter: Counter) -> None:
    """records  a b | saved |  c   | CRASH |  from c on"""
    for uid in "ab":
        counter.put(uid)
    counter.step()
    counter.clock.advance(1)
    counter.step()
    counter.put("c")
    counter.step()
    counter.kafka.group("counter", "bucketed").committed.clear()
    counter.crash()
    counter.start()
    counter.step()
    assert counter.consumer.position(0) == 2
    counter.step()
    assert counter.held() == {MINUTE: 3}


def test_the_groups_offsets_follow_what_is_saved_for_lag_tools(counter: Counter) -> None:
    for uid in "abc":
        counter.put(uid)
    counter.step()
    assert FakeAdmin(counter.kafka).lag("counter", "bucketed") == 3
    counter.clock.advance(1)
    counter.step()
    assert FakeAdmin(counter.kafka).lag("counter", "bucketed") == 0


def test_what_is_published_was_saved_before(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    class CrashError(Exception):
        pass

    def crash(*_: object) -> None:
        raise CrashError

    counter.put("a")
    counter.step()
    monkeypatch.setattr(next(iter(counter.counting.partitions.open.values()))._store, "save", crash)
    counter.clock.advance(1)
    with pytest.raises(CrashError):
        counter.counting.step()
    assert counter.published() == {}


def test_counts_that_could_not_be_published_stay_due(counter: Counter) -> None:
    counter.put("a")
    counter.step()
    counter.kafka.refuse_after = 0
    counter.clock.advance(1)
    counter.step()
    assert counter.published() == {}
    counter.clock.advance(1)
    counter.step()
    assert counter.published() == {MINUTE: 1}


def test_counts_that_a_crash_kept_from_being_published_are_published_after_the_restart(counter: Counter) -> None:
    counter.put("a")
    counter.step()
    for ledger in counter.counting.partitions.open.values():
        ledger.save()
    counter.crash()
    counter.start()
    counter.step(2)
    counter.clock.advance(1)
    counter.step()
    assert counter.published() == {MINUTE: 1}


def test_a_partition_that_is_lost_is_saved_and_counted_by_its_next_owner(kafka: FakeKafka, tmp_path: Path) -> None:
    kafka.topics.pop("bucketed")
    kafka.create("bucketed", partitions=2)
    first = Counter(kafka, tmp_path)
    first.step()
    first.put("a", MINUTE, 0)
    first.put("b", MINUTE + 60, 1)
    first.step()
    second = Counter(kafka, tmp_path)
    kafka.assign({first.consumer: [0], second.consumer: [1]})
    kafka.group("counter", "bucketed").members.append(second.consumer)
    second.counting.step()
    assert second.held() == {}, "its state is still in the first one's hands"
    first.step()
    assert first.held() == {MINUTE: 1}
    second.counting.step()
    assert second.held() == {MINUTE + 60: 1}
    assert second.consumer.position(1) == 1
    first.crash()
    second.crash()


def test_two_counters_with_one_state_are_an_error_after_a_while(counter: Counter) -> None:
    other = Counter(counter.kafka, Path(counter.config.state.directory))
    counter.kafka.group("counter", "bucketed").members.append(other.consumer)
    counter.kafka.assign({other.consumer: [0]})
    while counter.clock.monotonic() < 30:
        assert other.counting.step()
        counter.clock.advance(5)
    counter.clock.advance(1)
    with pytest.raises(StateError, match="in use by another process"):
        other.counting.step()


@pytest.mark.parametrize("again", ["xy", "wxyz"], ids=["shorter", "longer"])
@pytest.mark.parametrize("runs", [True, False], ids=["while it runs", "while it is stopped"])
def test_a_topic_that_was_made_again_is_counted_from_its_start(
    counter: Counter,
    again: str,
    runs: bool,  # noqa: FBT001
    capsys: pytest.CaptureFixture[str],
) -> None:
    """bucketed   a b c, saved   | deleted, recreated |   x y"""
    for uid in "abc":
        counter.put(uid)
    counter.step()
    counter.clock.advance(1)
    counter.step()
    if not runs:
        counter.crash()
    counter.kafka.delete("bucketed")
    counter.kafka.create("bucketed")
    for uid in again:
        counter.put(uid)
    if not runs:
        counter.start()
    for _ in range(4):
        counter.step()
        counter.clock.advance(1)
    assert counter.held() == {MINUTE: len(again)}
    assert "the old state is" in capsys.readouterr().err
    counter.finish()
    assert counter.held() == {MINUTE: len(again)}


def test_a_state_is_set_aside_when_its_reader_has_let_go_of_it_also_where_topics_have_no_ids(
    counter: Counter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """bucketed   a b c, saved   | read by somebody ... | deleted, recreated |   x y   ... until here |"""
    counter.kafka.topics["bucketed"].id = ""
    for uid in "abc":
        counter.put(uid)
    counter.step()
    counter.clock.advance(1)
    counter.step()
    (state,) = tmp_path.rglob("bucketed-0.sqlite")
    with closing(sqlite3.connect(state, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM progress").fetchall()
        counter.kafka.delete("bucketed")
        counter.kafka.create("bucketed")
        counter.kafka.topics["bucketed"].id = ""
        for uid in "xy":
            counter.put(uid)
        for _ in range(4):
            counter.step()
            counter.clock.advance(1)
        assert "the old state is" not in capsys.readouterr().err
        assert counter.held() == {}
    counter.step(2)
    assert "the old state is" in capsys.readouterr().err
    assert counter.held() == {MINUTE: 2}
    counter.finish()
    assert counter.held() == {MINUTE: 2}


def test_records_that_were_under_way_when_a_topic_was_made_again_are_not_taken_for_progress(counter: Counter) -> None:
    """bucketed   a b c, saved   | deleted, recreated |   w x y z   noticed   v (polled before going back)   saved"""
    for uid in "abc":
        counter.put(uid)
    counter.step()
    counter.clock.advance(1)
    counter.step()
    counter.kafka.delete("bucketed")
    counter.kafka.create("bucketed")
    for uid in "wxyz":
        counter.put(uid)
    counter.clock.advance(1)
    counter.step()
    counter.put("v")
    for _ in range(4):
        counter.clock.advance(1)
        counter.step()
    counter.finish()
    assert counter.held() == {MINUTE: 5}


@pytest.mark.parametrize("idle_seconds", [0, 3])
def test_more_partitions_are_refused_with_what_to_do(counter: Counter, idle_seconds: int) -> None:
    counter.put("a")
    counter.step()
    for _ in range(idle_seconds):
        counter.clock.advance(1)
        counter.step()
    counter.kafka.topics["bucketed"].partitions.append(type(counter.kafka.topics["bucketed"].partitions[0])())
    counter.clock.advance(1)
    with pytest.raises(StateError, match="had 1 partitions, now it has 2"):
        counter.counting.step()


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
    assert "4 messages read, 1 buckets changed" in out
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
    assert "5 messages read" in out
    assert "3 unreadable messages skipped" in out
    assert "bucketed-0: passing offsets 1 to 3: it unpacks to too much" in err


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
    assert "3 messages read, 2 buckets changed, lag 0" in first[2]
    counter.put("c", MINUTE)
    counter.put("a", MINUTE + 60)
    counter.step()
    counter.counting.report()
    second = capsys.readouterr().out.splitlines()
    assert second[0] == "2016-07-11T13:39:00Z  minute  2 unique users  +1"
    assert "2 messages read, 1 buckets changed, lag 0" in second[1]
    assert len(second) == 2


def reports(counter: Counter, seconds: float, capsys: pytest.CaptureFixture[str]) -> list[tuple[float, str]]:
    """The lines printed in so many seconds, and when each was."""
    printed = []
    end = counter.clock.monotonic() + seconds
    while counter.clock.monotonic() < end:
        counter.counting.step()
        printed += [(counter.clock.monotonic(), line) for line in capsys.readouterr().out.splitlines()]
    return printed


def test_a_report_comes_every_60_seconds_also_when_nothing_came(
    counter: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = reports(counter, 301, capsys)
    assert [at for at, _ in printed] == pytest.approx([60, 120, 180, 240, 300], abs=1)
    assert all(line.endswith("report  0 messages read, 0 buckets changed, lag 0") for _, line in printed)


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
    printed = [(at, line) for at, line in reports(counter, 305, capsys) if "report" in line]
    assert [at for at, _ in printed] == pytest.approx([60, 120, 180, 240, 300], abs=4)
    assert all("no answer from the broker" in line for _, line in printed)


def test_a_report_comes_in_time_when_records_never_stop(counter: Counter, capsys: pytest.CaptureFixture[str]) -> None:
    counter.kafka.records_per_poll = 1
    printed = []
    while counter.clock.monotonic() < 121:
        counter.put("a")
        counter.step()
        counter.clock.advance(0.4)
        printed += [counter.clock.monotonic() for line in capsys.readouterr().out.splitlines() if "report" in line]
    assert printed == pytest.approx([60, 120], abs=1)


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
    assert lines[-1]["messages_read"] == 2
    assert lines[-1]["lag"] == 1


def test_until_caught_up_ends_at_once_where_the_topic_is_empty(
    counter: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    counter.finish()
    (line,) = json_lines(capsys.readouterr().out)
    assert line["messages_read"] == 0


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


def test_minutes_past_their_retention_keep_their_published_count(kafka: FakeKafka, tmp_path: Path) -> None:
    """minutes   0 (3 users)   ......  101 x 1 hour later   |   0 again (1 user)"""
    counter = Counter(kafka, tmp_path, retention_seconds=600)
    counter.step()
    for uid in "abc":
        counter.put(uid)
    counter.step()
    for number in range(101):
        counter.put(f"u{number}", MINUTE + 3_600)
    counter.bucketers_are_at(MINUTE + 3_600)
    for _ in range(3):
        counter.step()
        counter.clock.advance(1)
    assert counter.held() == {MINUTE + 3_600: 101}
    counter.put("d")
    for _ in range(3):
        counter.step()
        counter.clock.advance(1)
    assert counter.held() == {MINUTE + 3_600: 101}
    assert counter.published() == {MINUTE: 3, MINUTE + 3_600: 101}
    counter.crash()


def test_what_comes_for_a_minute_that_is_gone_is_rejected_as_late(kafka: FakeKafka, tmp_path: Path) -> None:
    """minutes   0 (1 user)   ......  1 hour later: 0 is dropped   |   0 again, twice, and a new one   | CRASH, again"""
    counter = Counter(kafka, tmp_path, retention_seconds=600)
    counter.step()
    counter.put("a")
    counter.put("b", MINUTE + 3_600)
    counter.bucketers_are_at(MINUTE + 3_600)
    settle(counter)
    for uid, minute in (("c", MINUTE), ("d", MINUTE + 3_600), ("e", MINUTE)):
        counter.put(uid, minute)
    kafka.refuse_after = 0
    settle(counter)
    counter.crash()
    counter.start()
    settle(counter)
    assert counter.published() == {MINUTE: 1, MINUTE + 3_600: 2}
    letters = {tuple(record.headers): record for record in kafka.records("rejected")}
    assert [(record.key, record.value) for record in letters.values()] == [
        (b"%d" % MINUTE, b'{"uid":"c","ts":%d}' % MINUTE),
        (b"%d" % MINUTE, b'{"uid":"e","ts":%d}' % MINUTE),
    ]
    assert [dict(record.headers)["offset"] for record in letters.values()] == [b"2", b"4"]
    assert {dict(record.headers)["reason"] for record in letters.values()} == {b"late"}
    assert late_of(kafka.group("counter", "bucketed").committed[0].metadata) == 2
    counter.crash()


def test_late_records_that_are_not_delivered_at_the_end_are_told(
    kafka: FakeKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counter = Counter(kafka, tmp_path, retention_seconds=600)
    counter.step()
    counter.put("a", MINUTE + 3_600)
    counter.bucketers_are_at(MINUTE + 3_600)
    counter.put("b")
    settle(counter)
    counter.put("c")
    kafka.refuse_after = 0
    counter.step()
    kafka.away = True
    counter.counting.close()
    assert "late records that are not in 'rejected' yet: 1; the next start reads them again" in capsys.readouterr().err
    kafka.away = False
    counter.start()
    settle(counter)
    assert [record.value for record in kafka.records("rejected")] == [b'{"uid":"c","ts":%d}' % MINUTE]
    counter.crash()


@pytest.mark.parametrize(("key", "value"), [(b"9" * 5_000, b'{"uid":"x"}'), (b"%d" % MINUTE, b"?")])
def test_records_of_other_programs_beside_late_ones_are_unreadable_and_no_dead_letters(
    kafka: FakeKafka, tmp_path: Path, key: bytes, value: bytes
) -> None:
    counter = Counter(kafka, tmp_path, retention_seconds=600)
    counter.step()
    counter.put("a", MINUTE + 3_600)
    counter.bucketers_are_at(MINUTE + 3_600)
    counter.put("b")
    settle(counter)
    assert counter.held() == {MINUTE + 3_600: 1}
    counter.put("c")
    kafka.append("bucketed", value, key=key)
    counter.put("d")
    settle(counter)
    assert [dict(record.headers)["offset"] for record in kafka.records("rejected")] == [b"2", b"4"]
    assert late_of(kafka.group("counter", "bucketed").committed[0].metadata) == 2
    counter.crash()


def test_a_minute_stays_as_long_as_one_partition_of_feed_may_bring_more_for_it(
    kafka: FakeKafka, tmp_path: Path
) -> None:
    """feed-0 is an hour ahead of feed-1"""
    counter = Counter(kafka, tmp_path, retention_seconds=600)
    counter.step()
    counter.put("a")
    kafka.create("feed", partitions=2)
    counter.bucketers_are_at(MINUTE + 3_600, 0)
    settle(counter)
    kafka.append("feed", b"{}", partition=1)
    for _ in range(100):
        settle(counter)
    assert counter.held() == {MINUTE: 1}, "nobody has read feed-1 yet"
    counter.bucketers_are_at(MINUTE + 60, 1)
    settle(counter)
    assert counter.held() == {MINUTE: 1}
    counter.bucketers_are_at(MINUTE + 3_600, 1)
    settle(counter)
    assert counter.held() == {}
    counter.crash()


def test_nothing_is_dropped_before_the_records_that_a_commit_vouches_for_are_read(
    kafka: FakeKafka, tmp_path: Path
) -> None:
    """The commit says that all of minute 0 is in `bucketed`; one record of it is not polled yet."""
    kafka.records_per_poll = 1
    counter = Counter(kafka, tmp_path, retention_seconds=600)
    counter.step()
    for uid in "abc":
        counter.put(uid)
    counter.bucketers_are_at(MINUTE + 3_600)
    for count in (1, 2):
        counter.step()
        counter.clock.advance(1)
        assert counter.held() == {MINUTE: count}
    settle(counter)
    assert counter.published() == {MINUTE: 3}
    assert kafka.records("rejected") == []
    counter.crash()


def history(counter: Counter) -> list[int]:
    """Every count that was published of MINUTE, in order."""
    return [json.loads(value or b"")["unique_users"] for value in counter.kafka.values("counts")]


def settle(counter: Counter) -> None:
    for _ in range(3):
        counter.step()
        counter.clock.advance(1)


def test_a_counter_with_another_state_publishes_nothing_before_it_is_where_the_first_may_have_been(
    counter: Counter, tmp_path: Path
) -> None:
    """first   u0 … u9   published 10   | CRASH      second   u0   (saved)   u1 … u9   published 10"""
    for number in range(10):
        counter.put(f"u{number}")
    settle(counter)
    counter.crash()
    counter.kafka.records_per_poll = 1
    second = Counter(counter.kafka, tmp_path / "other")
    for _ in range(14):
        second.step()
        second.clock.advance(1)
    assert second.held() == {MINUTE: 10}
    assert history(counter) == sorted(history(counter))
    assert history(counter)[-1] == 10
    second.crash()


def test_a_counter_that_lost_its_partition_unnoticed_publishes_nothing_more(counter: Counter) -> None:
    counter.put("a")
    settle(counter)
    counter.step()
    counter.put("b")
    counter.step()
    counter.evict()
    counter.clock.advance(1)
    counter.counting.save()
    assert history(counter) == [1]


def test_a_counter_that_was_frozen_between_its_commit_and_its_publishing_asks_the_group_again(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """records  a | commit accepted, FROZEN, the group gives its partition away | nothing published"""
    counter.put("a")
    counter.step()
    accepted = counter.consumer.commit

    def commit_and_freeze(positions: Any, timeout_seconds: float) -> bool:
        done = accepted(positions, timeout_seconds)
        counter.clock.advance(5)
        counter.evict()
        return done

    monkeypatch.setattr(counter.consumer, "commit", commit_and_freeze)
    counter.clock.advance(1)
    counter.counting.save()
    monkeypatch.undo()
    counter.counting.save()
    assert counter.published() == {}
    counter.finish()
    assert counter.published() == counter.expected()


def test_a_partition_that_comes_back_goes_on_from_its_own_state_however_old_that_is(
    kafka: FakeKafka, tmp_path: Path
) -> None:
    """first: a │ second, with a state of its own: a b c │ first again: a from its state, b and c from the topic."""
    first = Counter(kafka, tmp_path / "first")
    first.step()
    first.put("a")
    first.step()
    second = Counter(kafka, tmp_path / "second")
    kafka.group("counter", "bucketed").members.append(second.consumer)
    kafka.assign({first.consumer: [], second.consumer: [0]})
    first.step()
    assert first.held() == {}
    for uid in "bc":
        first.put(uid)
    second.step(3)
    assert second.held() == {MINUTE: 3}
    assert second.counting.partitions.open[0].position == 3
    kafka.assign({first.consumer: [0], second.consumer: []})
    second.step()
    first.step()
    assert first.counting.partitions.open[0].saved_offset == 1
    first.step()
    assert first.held() == {MINUTE: 3}
    first.crash()
    second.crash()


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


def test_wide_intervals_of_a_topic_with_more_partitions_than_configured_are_refused(
    kafka: FakeKafka, tmp_path: Path
) -> None:
    kafka.create("bucketed", partitions=2)
    counter = Counter(kafka, tmp_path, intervals=["hour"])
    with pytest.raises(StateError, match="a user would be counted in each of them"):
        counter.counting.step()


def test_counts_that_were_deleted_and_recreated_get_all_that_is_held_and_what_came_meanwhile(
    counter: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    counter.put("a")
    counter.put("a", MINUTE + 60)
    counter.step(5)
    counter.counting.save()
    assert counter.published() == counter.expected()
    counter.kafka.delete("counts")
    counter.put("b")
    counter.step(3)
    counter.counting.save()
    counter.counting.report()
    assert "lag 0, no topic 'counts'" in capsys.readouterr().out
    counter.kafka.create("counts")
    counter.topics.recreations += 1
    counter.counting.save()
    assert counter.published() == counter.expected() == {MINUTE: 2, MINUTE + 60: 1}
    assert capsys.readouterr().err.count("publishing all that is held again") == 1


def test_what_was_counted_of_a_bucketed_that_is_gone_is_not_published_into_new_counts(counter: Counter) -> None:
    counter.put("a")
    counter.step(2)
    counter.counting.save()
    counter.kafka.delete("bucketed")
    counter.kafka.delete("counts")
    counter.kafka.create("counts")
    counter.topics.recreations += 1
    counter.counting.save()
    assert counter.published() == {}
    counter.kafka.create("bucketed")
    counter.put_users.clear()
    counter.put("b", MINUTE + 60)
    counter.step(5)
    counter.counting.save()
    assert counter.published() == {MINUTE + 60: 1}


def test_the_lag_of_a_bucketed_that_is_gone_is_not_0(counter: Counter, capsys: pytest.CaptureFixture[str]) -> None:
    counter.kafka.delete("bucketed")
    counter.counting.report()
    assert "0 buckets changed, no topic 'bucketed'" in capsys.readouterr().out
