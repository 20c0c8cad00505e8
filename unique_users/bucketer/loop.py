"""The bucketer's loop: frames of `feed` become records of `bucketed`, keyed by their minute.

At least once: 1. send everything made from some frames, 2. wait until all of it is acknowledged, 3. commit the frames'
position. Whatever happens in between, the next start reads the frames again, and a frame that comes twice changes no
count.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from unique_users.aggregation.marks import Gap, Why, gap_of_deleted, with_gaps
from unique_users.bucketer.rekey import Rekeyed, Rekeyer, all_rejected
from unique_users.clients.connect import lag
from unique_users.clients.protocols import Batch, Consumer, Polled, Position, Producer, TopicState
from unique_users.config.schema import Config
from unique_users.errors import BrokerAwayError, BrokerError, DeliveryError, TooLargeError, TopicError
from unique_users.event_time.stream_clock import StreamClock
from unique_users.log_history.check import HistoryCheck
from unique_users.log_history.lost_records import look_for_loss, readable_offset, say_unreadable
from unique_users.log_history.past import Past
from unique_users.messages.checkpoints import Checkpoint, Found
from unique_users.messages.frame import Reason
from unique_users.messages.frame_counts import FrameCounts
from unique_users.messages.offset_metadata import CHECKPOINTS_MAX, RECENT, OffsetMetadata
from unique_users.messages.partitioning import NEW_TOPIC, Layout, partitions_of_keys
from unique_users.reports.report import bucketer_report
from unique_users.runtime.pulse import alive, busy
from unique_users.runtime.signals import Stop
from unique_users.runtime.timer import NO_PARTITION_SECONDS, Every

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
ACKNOWLEDGE_SECONDS = 1.0
STOP_SECONDS = 3.0  # what a stop waits for the last acknowledgements and the last commit
COMMIT_SECONDS = 3.0
COMMIT_FRAMES_MAX = 200_000  # a commit at least this often, however fast frames come


@dataclass
class Reading:
    """One partition of `feed` that this process reads."""

    topic_id: str
    clock: StreamClock
    position: int
    committed: int
    totals: FrameCounts  # of all frames up to `committed`, whoever read them; twice of those that were read again
    past: Past
    newest_ms: int | None = None  # the Kafka time of the last frame read
    recorded: int | None = None  # what the broker said that the group has committed
    announced: bool = False  # committed once: who reads the commits then knows that somebody reads the partition
    gaps: tuple[Gap, ...] = ()  # of frames that were deleted before they were read, whoever missed them
    missed: bool = False  # frames right before the next one were deleted
    pending: FrameCounts = field(default_factory=FrameCounts)  # since the last commit

    def to_commit(self, layout: Layout) -> Position:
        """The position with what a restart needs to judge the next frames and to place them as this process would."""
        totals = self.totals + self.pending
        clock, history = self.clock.to_metadata(), self.past.remember()
        told = (totals, self.newest_ms, history, self.gaps, self.missed)
        metadata = OffsetMetadata(self.topic_id, clock, layout, *told)
        return Position(self.position, metadata.text())

    def mark_missed(self, first_kept_ms: int, future_seconds_max: int) -> None:
        """Note that frames before one of this Kafka time were deleted before they were read."""
        start = self.clock.watermark() or 0
        gap = gap_of_deleted(Why.RECORDS_DELETED, start, first_kept_ms, future_seconds_max)
        self.gaps = with_gaps(self.gaps, [gap])
        self.missed = False

    def mark_committed(self) -> None:
        """What was read so far is committed."""
        self.committed = self.recorded = self.position
        self.announced = True
        self.totals += self.pending
        self.pending = FrameCounts()

    def begin_again(self, offset: int, clock: StreamClock) -> None:
        """The topic is another one, which is read from an offset on."""
        self.committed = self.position = offset
        self.clock, self.totals, self.past = clock, FrameCounts(), remembered(())
        self.missed = offset > 0

    def go_back(self, offset: int) -> None:
        """Read from an earlier offset again, in the same topic. The clock stays: it judges as it would have."""
        self.past.go_back(offset)
        self.position = offset


def remembered(history: Sequence[Checkpoint]) -> Past:
    """The past of a partition of `feed`, of which a commit holds as much as it has room for."""
    return Past(history, CHECKPOINTS_MAX, RECENT)


class Bucketing:
    """Reads `feed`, writes `bucketed` and `rejected`, commits. Call open, step until it returns False, close."""

    def __init__(
        self,
        config: Config,
        consumer: Consumer,
        describe: Callable[[], TopicState],
        history: HistoryCheck,
        began: Layout,  # that the rekeyer was made for
        layout: Callable[[], Layout],
        new_producer: Callable[[], Producer | None],
        rekeyer: Rekeyer,
        stop: Stop,
        monotonic: Callable[[], float],
        until: Mapping[int, int] | None = None,
        missing: Callable[[], tuple[str, ...]] = tuple,  # topics that are gone for now
        recreated: Callable[[], int] = int,  # how often a topic that is written became another one
    ) -> None:
        self._config = config
        self._consumer = consumer
        self._describe = describe
        self._history = history
        self._layout = layout
        self._began = began
        self._new_producer = new_producer
        self._producer: Producer | None = None
        self._rekeyer = rekeyer
        self._stop = stop
        self._monotonic = monotonic
        self._until = until
        self._missing = missing
        self._recreated = recreated
        self._written_to = recreated()  # what `recreated` said when the producer began
        self._gone = False  # a topic, when it was last looked at
        self._readings: dict[int, Reading] = {}
        self._unopened: set[int] = set()
        self._topic_ids: dict[int, str] = {}  # of what was read last
        self._looked_at_all = False
        self._uncommitted = 0
        self._refused_at: dict[int, int] | None = None  # the positions committed when a record was too large
        self._commit_due = Every(config.bucketer.commit_seconds, monotonic)
        self._report_due = Every(config.bucketer.report_seconds, monotonic)
        self._no_partition_due = Every(NO_PARTITION_SECONDS, monotonic)
        self._waiting = False
        self.counts = FrameCounts()  # committed by this process

    def open(self) -> None:
        """Connect the producer; waits for the broker."""
        self._producer = self._new_producer()

    def step(self) -> bool:
        """Poll once and handle what came; return False when a stop is requested or the end is reached."""
        if self._stop.requested or self._producer is None:
            return False
        alive()
        try:
            if missing := self._missing():
                self._wait_for_topics(missing)
                finished = False
            elif not self._writes_on():
                return True
            else:
                finished = self._read_on()
        except DeliveryError as error:
            self._start_over(error)
            finished = False
        if self._report_due.due():
            self.report()
        return not finished

    def _wait_for_topics(self, missing: Iterable[str]) -> None:
        """Let go of what is in flight, which would come into the next topic of a name, and send nothing meanwhile."""
        if not self._gone:
            self._gone = True
            _log.info(f"{', '.join(f'no topic {name!r}' for name in missing)}; reading again from the last commit")
            self._let_go()
        self._stop.wait(POLL_SECONDS)

    def _writes_on(self) -> bool:
        """Whether there is room for more records. Raises DeliveryError."""
        if self._gone:
            self._gone = False
            self._begin_to_write()
        self._check_written()
        return self._producer is not None and self._broker_keeps_up(self._producer.has_room)

    def _read_on(self) -> bool:
        """Poll once and handle what came; return whether the end is reached. Raises DeliveryError."""
        polled = self._poll()
        self._forget(polled.lost)
        self._history.notice({p: reading.past for p, reading in self._readings.items()})
        for batch in polled.batches:
            if batch.partition in self._readings:
                self._handle(batch)
        # Not before: what was polled of a partition that is opened now came from another position.
        self._unopened |= polled.taken
        self._open_partitions()
        self._settle_doubts()
        if self._commit_due.due() or self._uncommitted >= COMMIT_FRAMES_MAX:
            with suppress(BrokerAwayError):
                self._topic_was_made_again()  # also when nothing came: the new one may be as long as the old
            self.commit()
        return self._caught_up()

    def commit(self) -> bool:
        """Commit what is acknowledged; return False when that is not all yet, or the group is being rebalanced."""
        doubts = self._history.in_doubt  # a broker that went back shall keep what was committed then
        moved = {p: r for p, r in self._readings.items() if r.position != r.committed or not r.announced}
        due = {p: reading for p, reading in moved.items() if p not in doubts}
        if not due:
            return True
        if self._producer is None or not self._broker_keeps_up(self._producer.flush):
            return False
        try:
            self._check_written()
            if self._topic_was_made_again():
                return False
            layout = self._checked_layout(self._began)
            done = self._consumer.commit({p: reading.to_commit(layout) for p, reading in due.items()}, COMMIT_SECONDS)
        except BrokerAwayError:
            done = False
        if done:
            if self._waiting:
                _log.info("the broker acknowledges again, going on")
                self._waiting = False
            for reading in due.values():
                self.counts += reading.pending
                reading.mark_committed()
            self._uncommitted = 0
        return done

    def report(self) -> None:
        """Print what this process has committed, and what it has still to do."""
        committed = {p: reading.committed for p, reading in self._readings.items()}
        missing = self._missing()
        # Of a partition that could not be opened yet, it is not known what is left.
        unknown = self._config.topics.feed.name in missing or self._unopened
        left = None if unknown else lag(self._consumer, committed)
        line = bucketer_report(self.counts, left, len(committed), missing)
        with busy():
            print(line, flush=True)

    def close(self) -> None:
        """Commit what can be committed in a few seconds, report, leave the group."""
        deadline = self._monotonic() + STOP_SECONDS
        try:
            while not self.commit() and self._monotonic() < deadline:
                alive()
                self._forget(self._consumer.poll(0).lost)
        except DeliveryError as error:
            _log.info(f"{error}; these frames are read again at the next start")
        uncommitted = sum(reading.pending.read for reading in self._readings.values())
        if uncommitted:
            _log.info(f"{uncommitted} frames are not committed: they are read again at the next start")
        self.report()
        if self._producer is not None:
            self._producer.close()
        self._history.close()
        self._consumer.close()

    def _poll(self) -> Polled:
        try:
            return self._consumer.poll(min(POLL_SECONDS, self._commit_due.remaining()))
        except TopicError:
            # Whoever passes what is damaged sets the position behind it: what was read before must not be lost.
            deadline = self._monotonic() + STOP_SECONDS
            with suppress(BrokerError, DeliveryError):
                while not self.commit() and self._monotonic() < deadline:
                    self._stop.wait(POLL_SECONDS)
            raise

    def _forget(self, lost: Iterable[int]) -> None:
        """Uncommitted frames of a lost partition are read again by its next owner, and counted there."""
        for partition in lost:
            self._readings.pop(partition, None)
            self._history.forget(partition)
            self._unopened.discard(partition)

    def _open_partitions(self) -> None:
        """Go to the committed position of each partition taken, asking the broker for all of them at once."""
        if not self._unopened:
            return
        try:
            topic = self._describe()
            self._look_at_all_layouts(topic.partitions)
            # Those that a topic made again does not have are about to be lost.
            opened = sorted(partition for partition in self._unopened if partition < topic.partitions)
            positions = self._consumer.committed(opened)
            bounds = self._consumer.bounds(opened)
            for partition in opened:
                self._open(partition, topic.id, positions.get(partition), bounds[partition])
        except BrokerAwayError:
            return

    def _open(self, partition: int, topic_id: str, committed: Position | None, bounds: tuple[int, int]) -> None:
        """Read on from the committed position, with the clock that was committed there. Raises BrokerAwayError."""
        name = self._config.topics.feed.name
        wanted = committed.offset if committed else 0
        then = OffsetMetadata.parsed(committed.metadata if committed else "")
        if then.layout:
            self._checked_layout(then.layout)
        # The broker forgets a deleted topic's positions; what this process read of it, it knows itself.
        if {then.topic_id, self._topic_ids.get(partition, "")} - {topic_id, ""}:
            _log.info(f"{name}-{partition}: was deleted and made again: reading it from its start")
            wanted, then = 0, OffsetMetadata(gaps=then.gaps, missed=then.missed)
        past = remembered(then.history)
        if found := self._history.opened(partition, past, wanted, bounds):
            self._history.say(partition, found, wanted)
            past.go_back(found.offset)
        offset = found.offset if found else readable_offset(name, partition, wanted, bounds)
        clock = StreamClock.from_metadata(self._config.bucketer.retention_seconds, then.clock)
        reading = Reading(topic_id, clock, offset, offset, then.totals or FrameCounts(), past, then.newest_ms)
        reading.recorded = committed and committed.offset
        reading.announced = reading.recorded == offset
        reading.gaps, reading.missed = then.gaps, then.missed or offset > wanted
        self._readings[partition] = reading
        self._topic_ids[partition] = topic_id
        self._consumer.start(partition, offset)
        self._unopened.discard(partition)

    def _look_at_all_layouts(self, partitions: int) -> None:
        """Before the first frame, check what the group committed of every partition: of a new one it is nothing."""
        if self._looked_at_all:
            return
        for committed in self._consumer.committed(range(partitions)).values():
            if former := OffsetMetadata.parsed(committed.metadata).layout:
                self._checked_layout(former)
        self._looked_at_all = True

    def _checked_layout(self, former: Layout) -> Layout:
        """The layout of `bucketed` as it is now. Raises TopicError where it does not go on from a former one.

        Before a commit: frames whose records a changed topic may have spread otherwise are not read until it is right.
        """
        now = self._layout()
        if now.partitions == self._began.partitions and now.fits(former):
            return now
        raise TopicError(
            f"topic {self._config.topics.bucketed.name!r} was written {former.describe()}, now it is to be"
            f" {now.describe()}: a minute or user would stand in two of them. {NEW_TOPIC}"
        )

    def _check_written(self) -> None:
        """Raise DeliveryError once where `bucketed` or `rejected` is another topic than the producer began to write."""
        if self._recreated() != self._written_to:
            raise DeliveryError("a topic that is written was deleted and recreated")

    def _topic_was_made_again(self) -> bool:
        """Whether `feed` is another topic than the one that was read. Then its partitions are opened again."""
        topic_id = self._describe().id
        if all(reading.topic_id == topic_id for reading in self._readings.values()):
            return False
        self._open_again()
        return True

    def _settle_doubts(self) -> None:
        """Read on where the log still is the one that was read. While the broker is away, what is in doubt waits."""
        for partition in self._history.in_doubt:
            reading = self._readings[partition]
            try:
                found = self._history.differs(partition, reading.past, reading.position)
                if found:
                    self._history.say(partition, found, reading.position)
                    self._go_back(reading, found)
                self._follow_commits(partition, reading)
                self._consumer.start(partition, reading.position)
            except BrokerAwayError:
                return
            self._history.settle(partition, reading.past)

    def _go_back(self, reading: Reading, found: Found) -> None:
        if found.back_to is None:
            reading.begin_again(found.offset, StreamClock(self._config.bucketer.retention_seconds))
        else:
            reading.go_back(found.offset)

    def _follow_commits(self, partition: int, reading: Reading) -> None:
        """Go back to what is committed where that went back: what was made of later frames may be gone as well."""
        committed = self._consumer.committed([partition]).get(partition, Position(0)).offset
        if reading.recorded is None or committed >= min(reading.recorded, reading.position):
            return
        first, _ = self._consumer.bounds([partition])[partition]
        reading.go_back(max(first, committed))
        reading.recorded = committed
        name = self._config.topics.feed.name
        _log.info(f"{name}-{partition}: what was committed went back: reading again from offset {reading.position}")

    def _handle(self, batch: Batch) -> None:
        reading = self._readings[batch.partition]
        if not self._history.continues(reading.past, reading.position, batch):
            return
        if batch.offsets[0] > reading.position:
            name = self._config.topics.feed.name
            reading.missed |= look_for_loss(self._consumer, name, batch, reading.position)
        if reading.missed:
            reading.mark_missed(batch.timestamps_ms[0], self._config.bucketer.future_seconds_max)
        if batch.unreadable:
            say_unreadable(self._config.topics.feed.name, batch)
            rekeyed = all_rejected(len(batch.offsets), Reason.TOO_LARGE, batch.unreadable)
        else:
            rekeyed = self._rekeyer.rekey(batch.values, batch.timestamps_ms, reading.clock)
        self._send(batch, rekeyed)
        reading.pending += rekeyed.counts()
        reading.position = batch.next_offset
        reading.past.read(batch, self._monotonic())
        reading.newest_ms = batch.timestamps_ms[-1]
        self._uncommitted += len(batch.offsets)

    def _send(self, batch: Batch, rekeyed: Rekeyed) -> None:
        assert self._producer is not None
        topics = self._config.topics
        partitions = rekeyed.partitions
        if partitions is None:
            # The client would choose among those that are there now, before it is known here that there are more.
            partitions = partitions_of_keys(rekeyed.keys, self._began.partitions)
        self._producer.send_all(topics.bucketed.name, rekeyed.values, rekeyed.keys, partitions)
        for rejected in rekeyed.rejected:
            headers = [
                ("reason", rejected.reason.encode()),
                ("detail", rejected.detail.encode(errors="replace")),
                ("topic", topics.feed.name.encode()),
                ("partition", b"%d" % batch.partition),
                ("offset", b"%d" % batch.offsets[rejected.place]),
            ]
            self._producer.send(topics.rejected.name, batch.values[rejected.place] or b"", headers=headers)

    def _start_over(self, error: DeliveryError) -> None:
        """Go back to the last commit with a new producer: nothing after it is known to have arrived."""
        self._give_up_if_stuck(error)
        _log.info(f"{error}; reading again from the last commit")
        self._let_go()
        self._stop.wait(ACKNOWLEDGE_SECONDS)
        self._begin_to_write()

    def _let_go(self) -> None:
        if self._producer is not None:
            self._producer.close()
        self._open_again()
        self._uncommitted = 0

    def _begin_to_write(self) -> None:
        self._written_to = self._recreated()
        self._producer = self._new_producer()

    def _open_again(self) -> None:
        for partition in self._readings:
            self._history.forget(partition)
        self._unopened |= set(self._readings)
        self._readings.clear()

    def _give_up_if_stuck(self, error: DeliveryError) -> None:
        """Raise TopicError when a record is too large for `bucketed` again, and nothing was committed in between."""
        if not isinstance(error, TooLargeError):
            return
        committed = {p: reading.committed for p, reading in self._readings.items()}
        if committed and committed == self._refused_at:
            name = self._config.topics.bucketed.name
            raise TopicError(
                f"topic {name!r} takes none of the records that the bucketer sends: {error}: raise its"
                " max.message.bytes with kafka-configs, and kafka.max_request_size if that is set"
            )
        self._refused_at = committed

    def _broker_keeps_up(self, ready: Callable[[float], bool]) -> bool:
        keeps_up = ready(ACKNOWLEDGE_SECONDS)
        if not keeps_up and not self._waiting:
            _log.info("waiting for the broker to acknowledge …")
            self._waiting = True
        if not keeps_up:
            with suppress(BrokerAwayError):
                self._checked_layout(self._began)  # what is for a partition that is gone would be waited for for ever
        return keeps_up

    def _caught_up(self) -> bool:
        if self._until is None or self._unopened or self._history.in_doubt:
            return False
        if not self._readings:
            return self._no_partition_due.due()
        try:
            behind = any(self._consumer.position(p) < self._until.get(p, 0) for p in self._readings)
        except BrokerAwayError:
            return False
        return not behind and self.commit()
