"""The whole line on a fake broker, as a state machine: frames, polls, crashes, restarts, idle partitions, losses.

Small blocks make the stream clock move after a few frames. At the end every frame must be counted, or stand in the
dead-letter topic with its reason, or be missing from buckets that are marked alone.

Longer than other modules: the rules of one state machine belong to one class.
"""

import json
import shutil
from collections import Counter as Numbers
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import msgspec
from fake_bucketer import Feed
from fake_counter import Counter
from fakes import FakeAdmin, FakeClock, FakeKafka, FakeStop
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from line_oracle import ALLOWED_SECONDS, BLOCK, MEDIANS, WIDE, KeepingKafka, Losses, Oracle, letters_of_read

from unique_users.clients.protocols import Position
from unique_users.event_time.buckets import bucket_timestamp
from unique_users.pipeline import progress as line
from unique_users.pipeline.low_watermark import LowWatermark
from unique_users.pipeline.progress import Progress

BASE = 1_467_900_000
MINUTES = 12  # and one more
PARTITIONS, BUCKETED_PARTITIONS = 3, 2
IDLE_SECONDS = 5
BEGIN = BASE + 360  # the Kafka time, which frames are ahead of and behind
FUTURE_SECONDS_MAX = 420


class RacingAdmin(FakeAdmin):
    """Between any two questions, the bucketer goes on."""

    def __init__(self, kafka: FakeKafka, line: "WholeLine") -> None:
        super().__init__(kafka)
        self._line = line

    def high_watermark_offsets(self, topic: str) -> dict[int, int]:
        answer = super().high_watermark_offsets(topic)
        self._line.bucketer_goes_on()
        return answer

    def committed(self, group: str, topic: str) -> dict[int, Position]:
        answer = super().committed(group, topic)
        self._line.bucketer_goes_on()
        return answer


class RacingProgress:
    """See line.ProgressSource."""

    def __init__(self, line: "WholeLine", counter: Counter) -> None:
        self._line = line
        self._config = counter.config
        self._low_watermark = LowWatermark(IDLE_SECONDS)

    def current(self) -> Progress | None:
        kafka = self._line.kafka
        if kafka.away:
            return None
        before = self._low_watermark.value
        seen = line.look(RacingAdmin(kafka, self._line), self._config, self._low_watermark, kafka.clock.monotonic())
        assert before is None or (seen.low_watermark is not None and seen.low_watermark >= before), "it went back"
        return seen

    def look(self) -> None:
        pass


class WholeLine(RuleBasedStateMachine):
    """A bucketer and a counter, which are killed and started again."""

    with_losses: bool | None = None  # of logs and states; None for either
    with_idles: bool | None = None  # partitions

    @initialize(
        by_uid=st.booleans(),
        topic_ids=st.booleans(),
        elsewhere=st.integers(0, 2 * PARTITIONS),
        lossy=st.booleans(),
        idles=st.booleans(),
        records_per_poll=st.sampled_from([2, 5]),
    )
    def begin(
        self,
        *,
        by_uid: bool,
        topic_ids: bool,
        elsewhere: int,
        lossy: bool,
        idles: bool,
        records_per_poll: int,
    ) -> None:
        """`elsewhere` is a partition of `feed`, if it has that, which another bucketer has, and does not read."""
        self.idles = idles if self.with_idles is None else self.with_idles
        self.lossy = lossy if self.with_losses is None else self.with_losses
        self._stack = ExitStack()
        self._stack.enter_context(patch.multiple("unique_users.event_time.stream_clock", BLOCK=BLOCK, MEDIANS=MEDIANS))
        self._stack.enter_context(redirect_stdout(StringIO()))
        self._stack.enter_context(redirect_stderr(StringIO()))
        directory = Path(self._stack.enter_context(TemporaryDirectory()))
        self.kafka = KeepingKafka(FakeClock(BEGIN))
        partitions = {"feed": PARTITIONS, "bucketed": BUCKETED_PARTITIONS, "counts": 1, "rejected": 1}
        for topic, number in partitions.items():
            self.kafka.create(topic, number)
        if not topic_ids:
            self.kafka.topics["bucketed"].id = ""
        self.kafka.records_per_poll = records_per_poll
        self.sent = 0
        self.ever_idle = False
        self.losses = Losses()
        self.floors: dict[int, int] = {}  # the highest that a state of a partition had
        self.highest: dict[tuple[bytes | None, str], int] = {}
        self.seen_counts = 0
        self.feed = Feed(
            self.kafka,
            FakeStop(self.kafka.clock),
            allowed_lateness_seconds=ALLOWED_SECONDS,
            future_seconds_max=FUTURE_SECONDS_MAX,
            commit_seconds=1,
            partition_by="uid" if by_uid else "bucket",
        )
        self.counter = Counter(
            self.kafka,
            directory,
            retention_seconds=ALLOWED_SECONDS,
            idle_seconds=IDLE_SECONDS,
            publish_seconds=1,
            report_seconds=1_000_000,
        )
        self.counter.config = msgspec.structs.replace(self.counter.config, bucketer=self.feed.config.bucketer)
        self.counter.drop = [WIDE]
        self.start_counter()
        if elsewhere < PARTITIONS:
            self.feed.bucketing.step()
            self.kafka.assign({self.feed.consumer: {*range(PARTITIONS)} - {elsewhere}})

    def start_counter(self, until: Mapping[int, int] | None = None) -> None:
        self.counter.start(until)
        self.counter.counting._progress = RacingProgress(self, self.counter)

    @rule(partition=st.integers(0, PARTITIONS - 1), minute=st.integers(0, MINUTES), frames=st.integers(1, 4))
    def put(self, partition: int, minute: int, frames: int) -> None:
        for _ in range(frames):
            self.sent += 1
            self.feed.put(f"u{self.sent % 5}", BASE + 60 * minute + self.sent % 60, partition)

    @rule(times=st.integers(1, 4))
    def step_bucketer(self, times: int) -> None:
        for _ in range(times):
            self.bucketer_goes_on()

    @rule(times=st.integers(1, 4), seconds=st.sampled_from([1, 1, 0]))
    def step_counter(self, times: int, seconds: int) -> None:
        for _ in range(times):
            self.counter_goes_on()
            self.pass_seconds(seconds)

    @precondition(lambda self: self.idles)
    @rule()
    def wait_until_idle(self) -> None:
        self.ever_idle = True
        for _ in range(IDLE_SECONDS + 2):
            self.counter_goes_on()
            self.bucketer_goes_on()
            self.pass_seconds(1)

    @rule(
        partition=st.integers(0, PARTITIONS - 1),
        minute=st.integers(0, MINUTES // 2),
        frames=st.integers(1, 3),
        idle=st.booleans(),
        read=st.sampled_from([0, 4, 2 * MEDIANS, 2 * MEDIANS]),
        jumps=st.booleans(),
    )
    def fall_behind(self, *, partition: int, minute: int, frames: int, idle: bool, read: int, jumps: bool) -> None:
        """A partition gets frames before and after the others run ahead, which go first if it is idle meanwhile."""
        self.put(partition, minute, frames)
        for _ in range(2):
            self.bucketer_goes_on()
            self.counter_goes_on()
            self.pass_seconds(1)
        for other in {*range(PARTITIONS)} - {partition}:
            self.put(other, MINUTES, MEDIANS * BLOCK)
        for _ in range(read):
            self.bucketer_goes_on()
        if idle and self.idles:
            self.wait_until_idle()
        elif jumps:
            self.put(partition, minute, 1)
            self.put(partition, MINUTES, BLOCK)
        self.step_counter(4, 1)
        self.put(partition, minute, frames)
        self.bucketer_goes_on()

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

    @precondition(lambda self: not self.kafka.away)
    @rule()
    def crash_counter_that_is_refused(self) -> None:
        self.kafka.refuse_after = None
        for _ in range(2):
            self.bucketer_goes_on()
            self.pass_seconds(1)
        for _ in range(2):
            self.kafka.refuse_after = 0
            self.counter.counting.step()
            self.pass_seconds(0.5)
        self.kafka.refuse_after = None
        self.crash_counter()

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

    @precondition(lambda self: self.lossy and not self.kafka.away)
    @rule()
    def lose_state(self) -> None:
        self.losses.state = True
        self.counter.crash()
        shutil.rmtree(self.counter.config.state.directory, ignore_errors=True)
        self.start_counter()

    @precondition(lambda self: self.lossy and not self.kafka.away)
    @rule(partition=st.integers(0, BUCKETED_PARTITIONS - 1), quarters=st.integers(1, 4), crash=st.booleans())
    def trim_bucketed(self, partition: int, quarters: int, crash: bool) -> None:  # noqa: FBT001
        log = self.kafka.topics["bucketed"].partitions[partition]
        # Of a log that is empty, only one who opens it knows that it was trimmed.
        before = min(log.first + -(-len(log.records) * quarters // 4), log.end if crash else log.end - 1)
        if before <= log.first:
            return
        self.losses.trimmed = True
        if crash:
            self.counter.crash()
        self.kafka.trim("bucketed", partition, before)
        if crash:
            self.start_counter()

    @precondition(lambda self: self.lossy and not self.kafka.away)
    @rule(
        partition=st.integers(0, PARTITIONS - 1), quarters=st.integers(1, 4), crash=st.booleans(), again=st.booleans()
    )
    def lose_frames(self, partition: int, quarters: int, crash: bool, again: bool) -> None:  # noqa: FBT001
        """Trim frames that no commit tells of. A bucketer that knows of some goes on as one that was killed."""
        if partition in self.losses.feed_cut:
            return  # what is committed may be of the frames that were cut off
        reading = self.feed.bucketing.partitions.open.get(partition)
        crash = crash or reading is None or reading.position != reading.committed
        if crash:
            self.feed.crash()
        committed = self.kafka.group("bucketer", "feed").committed.get(partition, Position(0)).offset
        log = self.kafka.topics["feed"].partitions[partition]
        unread_from = max(log.first, committed)
        before = unread_from + -(-(log.end - unread_from) * quarters // 4)
        if before > unread_from:
            self.losses.frames[partition].update(range(unread_from, before))
            self.kafka.trim("feed", partition, before)
        if crash:
            self.feed.start()
        if again:
            for _ in range(3):
                self.bucketer_goes_on()
                self.pass_seconds(1)
            self.crash_bucketer()
            self.put(partition, MINUTES, 1)
            for _ in range(3):
                self.bucketer_goes_on()
                self.pass_seconds(1)

    @precondition(lambda self: self.lossy and not self.kafka.away)
    @rule(partition=st.integers(0, BUCKETED_PARTITIONS - 1), quarters=st.integers(1, 3), noticed=st.booleans())
    def cut_back_bucketed(self, partition: int, quarters: int, noticed: bool) -> None:  # noqa: FBT001
        self.let_both_read()
        ledgers = self.counter.counting.partitions.open
        if any(p not in ledgers or ledgers[p].position < ledgers[p].publish_from for p in range(BUCKETED_PARTITIONS)):
            return  # one that is catching up publishes once it is where the log ended, which may have been cut off
        self.losses.cut |= self.cut_back("bucketed", partition, quarters, noticed=noticed)

    @precondition(lambda self: self.lossy and not self.kafka.away)
    @rule(partition=st.integers(0, PARTITIONS - 1), quarters=st.integers(1, 3), noticed=st.booleans())
    def cut_back_feed(self, partition: int, quarters: int, noticed: bool) -> None:  # noqa: FBT001
        self.let_both_read()
        if self.cut_back("feed", partition, quarters, noticed=noticed):
            self.losses.feed_cut.add(partition)

    def cut_back(self, topic: str, partition: int, quarters: int, *, noticed: bool) -> bool:
        """Lose the end of a log, but not all that is left of it. Returns whether something went."""
        log = self.kafka.topics[topic].partitions[partition]
        end = log.first + max(1, len(log.records) * quarters // 4)
        if end >= log.end:
            return False
        self.kafka.cut_back(topic, end, partition, noticed=noticed)
        return True

    @precondition(lambda self: not self.kafka.away and self.feed.config.bucketer.partition_by == "uid")
    @rule()
    def change_intervals(self) -> None:
        """Begin or cease to count a longer interval."""
        self.losses.intervals = True
        former = self.counter.config.counter
        intervals = ["minute"] if WIDE in former.intervals else ["minute", WIDE]
        changed = msgspec.structs.replace(former, intervals=intervals)
        self.counter.crash()
        self.counter.config = msgspec.structs.replace(self.counter.config, counter=changed)
        self.start_counter()

    def let_both_read(self) -> None:
        for _ in range(3):
            self.bucketer_goes_on()
            self.counter_goes_on()
            self.pass_seconds(1)

    def counter_goes_on(self) -> None:
        self.counter.counting.step()
        for partition, ledger in self.counter.counting.partitions.open.items():
            self.floors[partition] = max(self.floors.get(partition, 0), ledger.floor)

    def bucketer_goes_on(self) -> None:
        if self.feed.consumer not in self.kafka.group("bucketer", "feed").members and self.kafka.away:
            return
        self.feed.bucketing.step()

    def pass_seconds(self, seconds: float) -> None:
        """Time passes, for idle partitions only where a rule says so."""
        self.kafka.clock.advance(seconds)
        if not self.ever_idle:
            self.counter.counting._progress._low_watermark._quiet_since.clear()  # type: ignore[attr-defined]

    @invariant()
    def no_published_count_goes_down(self) -> None:
        """Of one generation, up to a tombstone."""
        records = self.kafka.records("counts")
        for record in records[self.seen_counts :]:
            if record.value is None:
                self.highest = {of: users for of, users in self.highest.items() if of[0] != record.key}
            elif (users := (value := json.loads(record.value)).get("unique_users")) is not None:
                of = record.key, value["generation"]
                assert users >= self.highest.get(of, 0), f"{of} went down to {users}"
                self.highest[of] = users
        self.seen_counts = len(records)

    def teardown(self) -> None:
        try:
            self.check()
        finally:
            self.counter.crash()
            self._stack.close()

    def check(self) -> None:
        self.settle()
        floors, ever_idle = dict(self.floors), self.ever_idle
        self.check_counts(floors, ever_idle=ever_idle)
        self.let_idle_partitions_pass()
        assert set(self.counter.held()) == {bucket_timestamp(BASE + 86_400)}, "idle partitions hold what is closed"
        self.check_counts(floors, ever_idle=ever_idle)

    def settle(self) -> None:
        """Heal everything, and run until all is counted."""
        self.kafka.away, self.kafka.refuse_after = False, None
        self.kafka.break_off()  # what was cut back unnoticed, and has just grown to its old end, shows now
        if self.feed.consumer in self.kafka.group("bucketer", "feed").members:
            self.kafka.assign({self.feed.consumer: range(PARTITIONS)})
        for _ in range(400):
            self.bucketer_goes_on()
            self.counter_goes_on()
            self.pass_seconds(1)
            if self.frames_are_read() and self.records_are_counted():
                break
        else:
            raise AssertionError("never caught up")
        for _ in range(3):
            self.counter_goes_on()
            self.pass_seconds(1)
        self.no_published_count_goes_down()

    def frames_are_read(self) -> bool:
        committed = self.kafka.group("bucketer", "feed").committed
        logs = self.kafka.topics["feed"].partitions
        return all(max(committed.get(p, Position(0)).offset, log.first) >= log.end for p, log in enumerate(logs))

    def records_are_counted(self) -> bool:
        """What is committed may be of a state that was lost."""
        ledgers = self.counter.counting.partitions.open
        logs = self.kafka.topics["bucketed"].partitions
        return all(p in ledgers and (ledgers[p].saved_offset or 0) >= log.end for p, log in enumerate(logs))

    def check_counts(self, floors: Mapping[int, int], *, ever_idle: bool) -> None:
        oracle = Oracle(self.kafka, self.losses, floors, ever_idle=ever_idle)
        oracle.check(self.counter.read_published(), self.counter.config.counter.intervals)
        if not self.losses.feed_cut:
            self.check_the_sum(Numbers(letters_of_read(oracle.letters, self.losses)))

    def check_the_sum(self, rejected: Numbers[str]) -> None:
        line = self.counter.counting._progress.current()
        assert line is not None
        totals = line.totals()
        assert totals is not None
        lost = sum(map(len, self.losses.frames.values()))
        assert totals.read == self.sent - lost == totals.accepted + totals.rejected.total()
        # What counters have rejected as late, a state that is lost forgets, and one that goes back tells again.
        if not self.losses.state and not self.losses.cut:
            assert totals.rejected == rejected

    def let_idle_partitions_pass(self) -> None:
        self.wait_until_idle()
        for _ in range(MEDIANS * BLOCK):
            self.sent += 1
            later = BASE + 86_400
            self.kafka.append("feed", b'{"uid":"later","ts":%d}' % later, timestamp_ms=later * 1000)
        self.settle()
        for _ in range(4):
            self.counter_goes_on()
            self.pass_seconds(1)
