"""The whole line on a fake broker, as a state machine: frames, polls, crashes, restarts, idle partitions.

Small blocks make the stream clock move after a few frames. At the end every frame must be counted, or stand in the
dead-letter topic with its reason.
"""

import json
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from fakes import FakeAdmin, FakeClock, FakeKafka, FakeStop
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from test_bucketing import Feed
from test_counting import Counter

from unique_users.buckets import bucket_timestamp
from unique_users.clients import Position
from unique_users.line import Line, look
from unique_users.low_watermark import LowWatermark

BASE = 1_467_900_000
PARTITIONS = 3
ALLOWED_SECONDS = 120
IDLE_SECONDS = 5
BLOCK, MEDIANS = 3, 3
Pair = tuple[int, str]  # a minute and a user


class NaiveClock:
    """Whether a frame is late, by the clock's definition alone: all accepted times are kept."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def admits(self, ts: int) -> bool:
        blocks = [self.times[at : at + BLOCK] for at in range(0, len(self.times) - BLOCK + 1, BLOCK)]
        medians = [sorted(block)[BLOCK // 2] for block in blocks]
        windows = [sorted(medians[max(0, end - MEDIANS) : end]) for end in range(1, len(medians) + 1)]
        now = max((window[(len(window) - 1) // 2] for window in windows), default=None)
        if now is not None and ts < now - ALLOWED_SECONDS:
            return False
        self.times.append(ts)
        return True


class RacingAdmin(FakeAdmin):
    """Between any two questions, the bucketer goes on."""

    def __init__(self, kafka: FakeKafka, line: "WholeLine") -> None:
        super().__init__(kafka)
        self._line = line

    def ends(self, topic: str) -> dict[int, int]:
        answer = super().ends(topic)
        self._line.bucketer_goes_on()
        return answer

    def committed(self, group: str, topic: str) -> dict[int, Position]:
        answer = super().committed(group, topic)
        self._line.bucketer_goes_on()
        return answer


class RacingLine:
    """See line.LineSource."""

    def __init__(self, line: "WholeLine", counter: Counter) -> None:
        self._line = line
        self._config = counter.config
        self._low_watermark = LowWatermark(IDLE_SECONDS)

    def current(self) -> Line | None:
        kafka = self._line.kafka
        if kafka.away:
            return None
        before = self._low_watermark.value
        seen = look(RacingAdmin(kafka, self._line), self._config, self._low_watermark, kafka.clock.monotonic())
        assert before is None or (seen.low_watermark is not None and seen.low_watermark >= before), "it went back"
        return seen

    def look(self) -> None:
        pass


class WholeLine(RuleBasedStateMachine):
    """A bucketer and a counter, which are killed and started again."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._stack.enter_context(patch.multiple("unique_users.clock", BLOCK=BLOCK, MEDIANS=MEDIANS))
        self._stack.enter_context(redirect_stdout(StringIO()))
        self._stack.enter_context(redirect_stderr(StringIO()))
        directory = Path(self._stack.enter_context(TemporaryDirectory()))
        self.kafka = FakeKafka(FakeClock())
        for topic, partitions in (("feed", PARTITIONS), ("bucketed", 2), ("counts", 1), ("rejected", 1)):
            self.kafka.create(topic, partitions)
        self.kafka.records_per_poll = 2
        self.sent = 0
        self.ever_idle = False
        self.highest: dict[bytes | None, int] = {}
        self.seen_counts = 0
        self.racing = False
        self.feed = Feed(self.kafka, FakeStop(self.kafka.clock), retention_seconds=ALLOWED_SECONDS, commit_seconds=1)
        self.counter = Counter(
            self.kafka,
            directory,
            retention_seconds=ALLOWED_SECONDS,
            idle_seconds=IDLE_SECONDS,
            publish_seconds=1,
            report_seconds=1_000_000,
        )
        self.bucketer_runs = True
        self.start_counter()

    def start_counter(self, until: Mapping[int, int] | None = None) -> None:
        self.counter.start(until)
        self.counter.counting._line = RacingLine(self, self.counter)

    @rule(partition=st.integers(0, PARTITIONS - 1), minute=st.integers(0, 12), frames=st.integers(1, 4))
    def put(self, partition: int, minute: int, frames: int) -> None:
        for _ in range(frames):
            self.sent += 1
            self.feed.put(f"u{self.sent % 5}", BASE + 60 * minute + self.sent % 60, partition)

    @rule(times=st.integers(1, 4))
    def step_bucketer(self, times: int) -> None:
        for _ in range(times):
            self.bucketer_goes_on()

    @rule(times=st.integers(1, 4))
    def step_counter(self, times: int) -> None:
        self.racing = True
        for _ in range(times):
            self.counter.counting.step()
            self.pass_seconds(1)
        self.racing = False

    @rule()
    def wait_until_idle(self) -> None:
        self.ever_idle = True
        for _ in range(IDLE_SECONDS + 2):
            self.counter.counting.step()
            self.bucketer_goes_on()
            self.pass_seconds(1)

    @rule()
    def crash_bucketer(self) -> None:
        self.feed.crash()
        if not self.kafka.away:
            self.feed.start()

    @rule()
    def crash_counter(self) -> None:
        self.counter.crash()
        if self.kafka.away:
            self.kafka.away = False
        self.start_counter()

    @rule()
    def evict_counter(self) -> None:
        self.counter.evict()

    @rule(records=st.integers(0, 3))
    def refuse(self, records: int) -> None:
        self.kafka.refuse_after = records

    @precondition(lambda self: not self.kafka.away)
    @rule()
    def go_away(self) -> None:
        self.kafka.away = True

    @precondition(lambda self: self.kafka.away)
    @rule()
    def come_back(self) -> None:
        self.kafka.away = False

    def bucketer_goes_on(self) -> None:
        if self.feed.consumer not in self.kafka.group("bucketer", "feed").members and self.kafka.away:
            return
        self.feed.bucketing.step()

    def pass_seconds(self, seconds: float) -> None:
        """Time passes, for idle partitions only where a rule says so."""
        self.kafka.clock.advance(seconds)
        if not self.ever_idle:
            self.counter.counting._line._low_watermark._quiet_since.clear()  # type: ignore[attr-defined]

    @invariant()
    def no_published_count_goes_down(self) -> None:
        records = self.kafka.records("counts")
        for record in records[self.seen_counts :]:
            users = json.loads(record.value or b"")["unique_users"]
            assert users >= self.highest.get(record.key, 0), f"{record.key!r} went down to {users}"
            self.highest[record.key] = users
        self.seen_counts = len(records)

    def teardown(self) -> None:
        try:
            self.check()
        finally:
            self.counter.crash()
            self._stack.close()

    def check(self) -> None:
        self.settle()
        self.check_every_frame()
        self.check_that_idle_partitions_hold_nothing()

    def settle(self) -> None:
        """Heal everything, and run until all is counted."""
        self.kafka.away, self.kafka.refuse_after = False, None
        for _ in range(400):
            self.bucketer_goes_on()
            self.counter.counting.step()
            self.pass_seconds(1)
            admin = FakeAdmin(self.kafka)
            if not admin.lag("bucketer", "feed") and not admin.lag("counter", "bucketed"):
                break
        else:
            raise AssertionError("never caught up")
        for _ in range(3):
            self.counter.counting.step()
            self.pass_seconds(1)
        self.no_published_count_goes_down()

    def check_every_frame(self) -> None:
        letters = {self._source(record): record for record in self.kafka.records("rejected")}
        accepted: Tally[Pair] = Tally()
        for partition, log in enumerate(self.kafka.topics["feed"].partitions):
            clock = NaiveClock()
            for record in log.records:
                frame = json.loads(record.value or b"")
                admitted = clock.admits(frame["ts"])
                rejected = ("feed", partition, record.offset) in letters
                assert admitted != rejected, (
                    f"feed-{partition} {record.offset}: {'rejected' if rejected else 'counted'}"
                )
                if admitted:
                    accepted[self._pair(frame)] += 1
        late = Tally(
            self._pair(json.loads(r.value or b"")) for (topic, *_), r in letters.items() if topic == "bucketed"
        )
        assert not late or self.ever_idle, "rejected as late, and no partition was ever idle"
        surely: defaultdict[int, int] = defaultdict(int)
        perhaps: defaultdict[int, int] = defaultdict(int)
        for pair, frames in accepted.items():
            perhaps[pair[0]] += 1
            surely[pair[0]] += frames > late[pair]
        published = self.counter.published()
        for minute in perhaps.keys() | published.keys():
            assert surely[minute] <= published.get(minute, 0) <= perhaps[minute], f"minute {minute}"
        self.check_the_sum(letters)

    def check_the_sum(self, letters: Mapping[Any, Any]) -> None:
        line = self.counter.counting._line.current()
        assert line is not None
        totals = line.totals()
        assert totals.read == self.sent == totals.accepted + totals.rejected.total()
        assert totals.rejected == Tally(dict(record.headers)["reason"].decode() for record in letters.values())

    def check_that_idle_partitions_hold_nothing(self) -> None:
        self.wait_until_idle()
        for _ in range(MEDIANS * BLOCK):
            self.sent += 1
            self.feed.put("later", BASE + 86_400, 0)
        self.settle()
        for _ in range(4):
            self.counter.counting.step()
            self.pass_seconds(1)
        assert set(self.counter.held()) == {bucket_timestamp(BASE + 86_400)}, "idle partitions hold what is closed"
        self.check_every_frame()

    @staticmethod
    def _source(record: Any) -> tuple[str, int, int]:
        headers = dict(record.headers)
        return headers["topic"].decode(), int(headers["partition"]), int(headers["offset"])

    @staticmethod
    def _pair(frame: Mapping[str, Any]) -> Pair:
        return bucket_timestamp(frame["ts"]), frame["uid"]
