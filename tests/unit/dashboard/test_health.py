"""The state line says who is silent, since when, and when that is over."""

from collections import Counter
from typing import Any

from unique_users.dashboard.health import BROKER_SECONDS, BUCKETER_SECONDS, COUNTER_SECONDS, IDLE_SECONDS, Health, Kind
from unique_users.messages.frame_totals import FrameTotals
from unique_users.messages.offset_metadata import OffsetMetadata
from unique_users.pipeline.low_watermark import Committed
from unique_users.pipeline.progress import Progress

NOW = 1_795_867_200


class Pipeline:
    """A look every three seconds at a pipeline whose offsets the test moves."""

    def __init__(self) -> None:
        self.health = Health(1, 5)
        self.now = NOW
        self.feed = self.read = self.bucketed = self.counted = 0

    def look(self, seconds: float, **moved: int) -> None:
        """Let time pass; each offset moves by so much between two looks."""
        for _ in range(int(seconds / 3)):
            self.now += 3
            for name, by in moved.items():
                setattr(self, name, getattr(self, name) + by)
            self.health.look(self._progress(), self.now)

    def away(self, seconds: float) -> None:
        self.now += int(seconds)

    def _progress(self, **rest: Any) -> Progress:
        metadata = OffsetMetadata(
            totals=FrameTotals(self.read, self.read - 1, Counter({"late": 1})), newest_ms=self.now * 1000
        )
        committed = {0: Committed(self.read, metadata)} if self.read else {}
        behind = None if self.feed > self.read else 0.0
        ends, counted = {0: self.bucketed}, {0: self.counted}
        return Progress(
            None, ends, committed, self.feed - self.read, behind, 0, feed_ends={0: self.feed}, counted=counted, **rest
        )

    def kind(self) -> tuple[Kind, int | None]:
        state = self.health.state(self.now)
        return state.kind, state.since


FLOWS = {"feed": 300, "read": 300, "bucketed": 300, "counted": 300}


def test_a_pipeline_that_keeps_up_is_live() -> None:
    line = Pipeline()
    assert line.kind() == (Kind.STARTING, None)
    line.look(30, **FLOWS)
    assert line.kind() == (Kind.LIVE, None)
    state = line.health.state(line.now)
    assert state.frames_per_second == 100
    assert (state.unread, state.uncounted, state.read, state.rejected) == (0, 0, 3_000, {"late": 1})


def test_a_bucketer_that_reads_nothing_though_frames_wait_is_silent_since_its_last_commit() -> None:
    line = Pipeline()
    line.look(30, **FLOWS)
    last = line.now
    line.look(BUCKETER_SECONDS - 1, feed=3)
    assert line.kind() == (Kind.LIVE, None)
    line.look(6, feed=3)
    assert line.kind() == (Kind.BUCKETER_SILENT, last)
    line.look(3, **{**FLOWS, "read": line.feed - line.read})
    assert line.kind()[0] != Kind.BUCKETER_SILENT


def test_a_counter_that_counts_nothing_though_records_wait_is_silent() -> None:
    line = Pipeline()
    line.look(30, **FLOWS)
    last = line.now
    line.look(COUNTER_SECONDS + 3, feed=3, read=3, bucketed=3)
    assert line.kind() == (Kind.COUNTER_SILENT, last)
    line.look(3, counted=line.bucketed - line.counted)
    assert line.kind() == (Kind.LIVE, None)


def test_a_broker_without_answers_is_silent_whatever_was_true_before() -> None:
    line = Pipeline()
    line.look(30, **FLOWS)
    last = line.now
    line.away(BROKER_SECONDS + 1)
    assert line.kind() == (Kind.BROKER_SILENT, last)
    line.look(3, **FLOWS)
    assert line.kind() == (Kind.LIVE, None)


def test_a_topic_that_is_missing_is_named_and_the_broker_is_not_blamed() -> None:
    line = Pipeline()
    line.health.miss(["feed", "bucketed"], line.now)
    assert line.kind() == (Kind.NO_TOPIC, None)
    assert line.health.state(line.now).missing == ("feed", "bucketed")
    line.look(3, **FLOWS)
    assert line.kind() == (Kind.LIVE, None)


def test_a_broker_that_never_answered_is_silent_since_the_start() -> None:
    line = Pipeline()
    assert line.kind() == (Kind.STARTING, None)
    line.away(BROKER_SECONDS + 1)
    assert line.kind() == (Kind.BROKER_SILENT, NOW)


def test_without_new_frames_nobody_is_silent() -> None:
    line = Pipeline()
    line.look(30, **FLOWS)
    assert line.health.state(line.now + IDLE_SECONDS - 5).kind == Kind.LIVE
    last = line.now
    state = line.health._state._replace(newest_frame=last)
    for _ in range(10):
        line.look(3)
        line.health._state = line.health._state._replace(newest_frame=state.newest_frame)
    assert line.kind() == (Kind.IDLE, last)


def test_work_that_begins_after_a_long_rest_is_not_silence() -> None:
    line = Pipeline()
    line.look(30, **FLOWS)
    line.look(3_600)
    line.look(3, feed=1)
    assert line.kind()[0] != Kind.BUCKETER_SILENT


def test_a_backlog_is_caught_up() -> None:
    line = Pipeline()
    line.look(30, **{**FLOWS, "feed": 100_000})
    assert line.kind() == (Kind.CATCHING_UP, None)
