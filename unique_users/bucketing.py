"""The bucketer's loop: frames of `feed` become records of `bucketed`, keyed by their minute.

At least once: 1. send everything made from some frames, 2. wait until all of it is acknowledged, 3. commit the frames'
position. Whatever happens in between, the next start reads the frames again, and a frame that comes twice changes no
count.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from unique_users.clients import Batch, Consumer, Position, Producer, TopicState, lag
from unique_users.clock import StreamClock
from unique_users.config import Config
from unique_users.errors import BrokerAwayError, DeliveryError, TopicError
from unique_users.layout import NEW_TOPIC, Layout, partitions_of_keys
from unique_users.lifecycle import Stop, alive, busy, say
from unique_users.positions import RECREATED, look_for_loss, readable_offset
from unique_users.rekey import FrameCounts, Rekeyed, Rekeyer
from unique_users.report import bucketer_report
from unique_users.schedule import NO_PARTITION_SECONDS, Every

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
    pending: FrameCounts = field(default_factory=FrameCounts)  # since the last commit

    def to_commit(self, layout: Layout) -> Position:
        """The position with what a restart needs to judge the next frames and to place them as this process would."""
        return Position(self.position, f"{self.topic_id} {self.clock.to_metadata()} {layout}")


class Bucketing:
    """Reads `feed`, writes `bucketed` and `rejected`, commits. Call open, step until it returns False, close."""

    def __init__(
        self,
        config: Config,
        consumer: Consumer,
        describe: Callable[[], TopicState],
        began: Layout,  # that the rekeyer was made for
        layout: Callable[[], Layout],
        new_producer: Callable[[], Producer | None],
        rekeyer: Rekeyer,
        stop: Stop,
        monotonic: Callable[[], float],
        until: Mapping[int, int] | None = None,
    ) -> None:
        self._config = config
        self._consumer = consumer
        self._describe = describe
        self._layout = layout
        self._began = began
        self._new_producer = new_producer
        self._producer: Producer | None = None
        self._rekeyer = rekeyer
        self._stop = stop
        self._monotonic = monotonic
        self._until = until
        self._readings: dict[int, Reading] = {}
        self._unopened: set[int] = set()
        self._topic_ids: dict[int, str] = {}  # of what was read last
        self._looked_at_all = False
        self._uncommitted = 0
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
            if not self._broker_keeps_up(self._producer.has_room):
                return True
            polled = self._consumer.poll(min(POLL_SECONDS, self._commit_due.remaining()))
            self._forget(polled.lost)
            for batch in polled.batches:
                if batch.partition in self._readings:
                    self._handle(batch)
            # Not before: what was polled of a partition that is opened now came from another position.
            self._unopened |= polled.taken
            self._open_partitions()
            if self._commit_due.due() or self._uncommitted >= COMMIT_FRAMES_MAX:
                with suppress(BrokerAwayError):
                    self._topic_was_made_again()  # also when nothing came: the new one may be as long as the old
                self.commit()
            finished = self._caught_up()
        except DeliveryError as error:
            self._start_over(error)
            finished = False
        if self._report_due.due():
            self.report()
        return not finished

    def commit(self) -> bool:
        """Commit what is acknowledged; return False when that is not all yet, or the group is being rebalanced."""
        due = {p: reading for p, reading in self._readings.items() if reading.position != reading.committed}
        if not due:
            return True
        if self._producer is None or not self._broker_keeps_up(self._producer.flush):
            return False
        try:
            if self._topic_was_made_again():
                return False
            layout = self._checked_layout(self._began)
            done = self._consumer.commit({p: reading.to_commit(layout) for p, reading in due.items()}, COMMIT_SECONDS)
        except BrokerAwayError:
            done = False
        if done:
            if self._waiting:
                say("the broker acknowledges again, going on")
                self._waiting = False
            for reading in due.values():
                reading.committed = reading.position
                self.counts += reading.pending
                reading.pending = FrameCounts()
            self._uncommitted = 0
        return done

    def report(self) -> None:
        """Print what this process has committed, and what it has still to do."""
        committed = {p: reading.committed for p, reading in self._readings.items()}
        line = bucketer_report(self.counts, lag(self._consumer, committed))
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
            say(f"{error}; these frames are read again at the next start")
        uncommitted = sum(reading.pending.read for reading in self._readings.values())
        if uncommitted:
            say(f"{uncommitted} frames are not committed: they are read again at the next start")
        self.report()
        if self._producer is not None:
            self._producer.close()
        self._consumer.close()

    def _forget(self, lost: Iterable[int]) -> None:
        """Uncommitted frames of a lost partition are read again by its next owner, and counted there."""
        for partition in lost:
            self._readings.pop(partition, None)
            self._unopened.discard(partition)

    def _open_partitions(self) -> None:
        """Go to the committed position of each partition taken, with the clock that was committed there."""
        settings = self._config.bucketer
        name = self._config.topics.feed.name
        for partition in sorted(self._unopened):
            alive()
            try:
                self._look_at_all_layouts()
                topic_id = self._describe().id
                committed = self._consumer.committed(partition) or Position(0, f"{topic_id} ")
                id_then, clock_then, layout_then = (*committed.metadata.split(" "), "", "", "")[:3]
                if former := Layout.parsed(layout_then):
                    self._checked_layout(former)
                # The broker forgets a deleted topic's positions; what this process read of it, it knows itself.
                if {id_then, self._topic_ids.get(partition, "")} - {topic_id, ""}:
                    say(f"{name}-{partition}: was deleted and made again: reading it from its start")
                    committed, clock_then = Position(0), ""
                offset = readable_offset(self._consumer, name, partition, committed.offset)
            except BrokerAwayError:
                return
            clock = StreamClock.from_metadata(settings.retention_seconds, clock_then)
            self._readings[partition] = Reading(topic_id, clock, offset, offset)
            self._topic_ids[partition] = topic_id
            self._consumer.start(partition, offset)
            self._unopened.discard(partition)

    def _look_at_all_layouts(self) -> None:
        """Before the first frame, check what the group committed of every partition: of a new one it is nothing."""
        if self._looked_at_all:
            return
        for partition in range(self._describe().partitions):
            alive()
            committed = self._consumer.committed(partition) or Position(0)
            if former := Layout.parsed("".join(committed.metadata.split(" ")[2:3])):
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

    def _topic_was_made_again(self) -> bool:
        """Whether `feed` is another topic than the one that was read. Then its partitions are opened again."""
        topic_id = self._describe().id
        if all(reading.topic_id == topic_id for reading in self._readings.values()):
            return False
        self._unopened |= set(self._readings)
        self._readings.clear()
        return True

    def _handle(self, batch: Batch) -> None:
        reading = self._readings[batch.partition]
        if batch.offsets[0] < reading.position:
            say(f"{self._config.topics.feed.name}-{batch.partition}: {RECREATED}: reading it from its start")
            reading.committed = batch.offsets[0]  # the broker forgot what was committed of the old topic
            reading.clock = StreamClock(self._config.bucketer.retention_seconds)
        if batch.offsets[0] > reading.position:
            look_for_loss(self._consumer, self._config.topics.feed.name, batch.partition, reading.position)
        rekeyed = self._rekeyer.rekey(batch.values, batch.timestamps_ms, reading.clock)
        self._send(batch, rekeyed)
        reading.pending += rekeyed.counts()
        reading.position = batch.next_offset
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
        say(f"{error}; reading again from the last commit")
        if self._producer is not None:
            self._producer.close()
        self._stop.wait(ACKNOWLEDGE_SECONDS)
        self._producer = self._new_producer()
        self._unopened |= set(self._readings)
        self._readings.clear()
        self._uncommitted = 0

    def _broker_keeps_up(self, ready: Callable[[float], bool]) -> bool:
        keeps_up = ready(ACKNOWLEDGE_SECONDS)
        if not keeps_up and not self._waiting:
            say("waiting for the broker to acknowledge …")
            self._waiting = True
        if not keeps_up:
            with suppress(BrokerAwayError):
                self._checked_layout(self._began)  # what is for a partition that is gone would be waited for for ever
        return keeps_up

    def _caught_up(self) -> bool:
        if self._until is None or self._unopened:
            return False
        if not self._readings:
            return self._no_partition_due.due()
        try:
            behind = any(self._consumer.position(p) < self._until.get(p, 0) for p in self._readings)
        except BrokerAwayError:
            return False
        return not behind and self.commit()
