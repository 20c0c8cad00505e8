"""The partitions of `feed` that this member of the group has been assigned."""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from unique_users.bucketer.feed_partition import FeedPartition, remembered
from unique_users.bucketer.group_start import GroupStart
from unique_users.clients.connect import in_transactions, lag
from unique_users.clients.protocols import Batch, Consumer, Polled, Position, Topics
from unique_users.config.schema import Config
from unique_users.errors import BrokerAwayError
from unique_users.event_time.stream_clock import StreamClock
from unique_users.messages.frame_totals import FrameTotals
from unique_users.messages.offset_metadata import OffsetMetadata
from unique_users.messages.partitioning import Layout
from unique_users.partition_log.cut_back import HistoryCheck
from unique_users.partition_log.deleted_records import look_for_loss, readable_offset

_log = logging.getLogger(__name__)

COMMIT_SECONDS = 3.0

CheckLayout = Callable[[Layout], object]


class FeedPartitions:
    """Opens each assigned partition at the group's committed position, and keeps that right from then on.

    `open` holds the partitions being read; others wait until the broker answers. With `until`, an end offset for each
    partition, it knows when everything up to there is read.
    """

    def __init__(
        self,
        config: Config,
        consumer: Consumer,
        topics: Topics,
        history: HistoryCheck,
        until: Mapping[int, int] | None = None,
    ) -> None:
        self._name = config.topics.feed.name
        self._rules = config.bucketer
        self._consumer = consumer
        self._topics = topics
        self._history = history
        self._until = until
        self._start = GroupStart(config, consumer)
        self._unopened: set[int] = set()
        self._topic_ids: dict[int, str] = {}  # of the topics last read
        self._looked_at_all = False
        self.open: dict[int, FeedPartition] = {}
        self.of: int | None = None  # how many partitions `feed` has; None before any was opened

    def poll(self, timeout_seconds: float) -> Polled:
        """Return what has arrived, and forget revoked partitions. Raises TopicError for a damaged batch."""
        polled = self._consumer.poll(timeout_seconds)
        self._forget(polled.revoked)
        self._history.notice({p: each.past for p, each in self.open.items()})
        return polled

    def next_in(self, batch: Batch) -> FeedPartition | None:
        """The partition of a batch, or None if the batch is not the next one of a partition being read."""
        partition = self.open.get(batch.partition)
        if partition is None or not self._history.continues(partition.past, partition.position, batch):
            return None
        if batch.offsets[0] > partition.position:
            partition.missed |= look_for_loss(self._consumer, self._name, batch, partition.position)
        if partition.missed:
            partition.mark_missed(batch.timestamps_ms[0], self._rules.future_seconds_max)
        return partition

    def follow(self, assigned: Iterable[int], check_layout: CheckLayout) -> None:
        """Open what is assigned, and settle doubts about what is read. Call it after handling a poll.

        Not before: records already polled of a partition that is opened now came from another position.
        """
        self._unopened.update(assigned)
        self._open_assigned(check_layout)
        self._settle_doubts()

    def read_again(self) -> None:
        """Go back to the last commit in all of them."""
        for partition in self.open:
            self._history.forget(partition)
        self._unopened |= set(self.open)
        self.open.clear()

    def read_again_if_recreated(self) -> bool:
        """Whether `feed` is another topic than the one that was read. If so, its partitions are opened again.

        Raises BrokerAwayError.
        """
        topic_id = self._topics.current(self._name).id
        if all(each.topic_id == topic_id for each in self.open.values()):
            return False
        self.read_again()
        return True

    def not_ready(self) -> str:
        """Why frames cannot be read yet; empty if they can."""
        if self._unopened:
            return "opening partitions"
        return "" if self.open else "no partition is assigned"

    def to_commit(self) -> dict[int, FeedPartition]:
        """The partitions with an uncommitted position. If the broker went back, its commit from then stays."""
        doubts = self._history.in_doubt
        sure = {p: each for p, each in self.open.items() if p not in doubts}
        for partition, seen in self._consumer.seen(sure).items():
            sure[partition].mark_reached(seen.position)
        return {p: each for p, each in sure.items() if each.has_news}

    def commit(self, due: Mapping[int, FeedPartition], layout: Layout) -> bool:
        """Commit; returns False while the group is rebalancing. Raises BrokerAwayError."""
        return self._consumer.commit({p: each.to_commit(layout) for p, each in due.items()}, COMMIT_SECONDS)

    def committed(self) -> dict[int, int]:
        """The committed offset of each partition being read."""
        return {p: each.committed for p, each in self.open.items()}

    def uncommitted_frames(self) -> int:
        """How many frames are read but not committed."""
        return sum(each.pending.read for each in self.open.values())

    @property
    def has_end(self) -> bool:
        """Whether to read only up to given end offsets."""
        return self._until is not None

    def at_end(self) -> bool:
        """Whether everything up to `until` is read."""
        if self._until is None or self._unopened or self._history.in_doubt:
            return False
        with suppress(BrokerAwayError):
            return all(self._consumer.position(p) >= self._until.get(p, 0) for p in self.open)
        return False

    def lag(self) -> int | None:
        """How many frames are not committed yet; None if unknown, for example while a partition is not open yet."""
        reached = {p: max(each.committed, each.reached) for p, each in self.open.items()}
        return None if self._unopened else lag(self._consumer, reached)

    def in_transactions(self) -> int:
        """How many records wait behind the start of an open transaction; 0 if the broker does not answer."""
        return in_transactions(self._consumer, self.open)

    def stay(self) -> None:
        """Stay a member of the group; records that arrive are no longer handled."""
        self._forget(self._consumer.poll(0).revoked)

    def close(self) -> None:
        """Leave the group. Commits nothing."""
        self._history.close()
        self._consumer.close()

    def _forget(self, revoked: Iterable[int]) -> None:
        """Forget revoked partitions: their next owner reads the uncommitted frames again, and counts them."""
        for partition in revoked:
            self.open.pop(partition, None)
            self._history.forget(partition)
            self._unopened.discard(partition)

    def _open_assigned(self, check_layout: CheckLayout) -> None:
        """Seek to the committed position of each assigned partition, asking the broker for all of them at once."""
        if not self._unopened:
            return
        try:
            topic = self._topics.current(self._name)
            self.of = topic.partitions
            self._look_at_all_layouts(topic.partitions, check_layout)
            # Partitions that a recreated topic does not have are about to be revoked.
            there = sorted(partition for partition in self._unopened if partition < topic.partitions)
            positions = self._consumer.committed(there)
            positions |= self._start.committed(set(there) - positions.keys() - self._topic_ids.keys(), topic)
            low_high = self._consumer.watermark_offsets(there)
            for partition in there:
                self._open(partition, topic.id, positions.get(partition), low_high[partition], check_layout)
        except BrokerAwayError:
            return

    def _open(
        self,
        partition: int,
        topic_id: str,
        committed: Position | None,
        low_high: tuple[int, int],
        check_layout: CheckLayout,
    ) -> None:
        """Read on from the committed position, with the clock that was committed there. Raises BrokerAwayError."""
        wanted = committed.offset if committed else 0
        then = OffsetMetadata.parsed(committed.metadata if committed else "")
        if then.layout:
            check_layout(then.layout)
        # The broker forgets a deleted topic's positions, but this process still knows what it read of it.
        if {then.topic_id, self._topic_ids.get(partition, "")} - {topic_id, ""}:
            _log.warning(f"{self._name}-{partition}: was deleted and recreated: reading it from its start")
            wanted, then = 0, OffsetMetadata(gaps=then.gaps, missed=then.missed)
        past = remembered(then.history)
        if found := self._history.opened(partition, past, wanted, low_high):
            self._history.say(partition, found, wanted)
            past.go_back(found.offset)
        offset = found.offset if found else readable_offset(self._name, partition, wanted, low_high)
        clock = StreamClock.from_metadata(self._rules.allowed_lateness_seconds, then.clock)
        opened = FeedPartition(topic_id, clock, offset, offset, then.totals or FrameTotals(), past, then.newest_ms)
        opened.recorded = committed and committed.offset
        opened.announced = opened.recorded == offset
        opened.gaps, opened.missed, opened.began_with = then.gaps, then.missed or offset > wanted, then.began_with
        self.open[partition] = opened
        self._topic_ids[partition] = topic_id
        self._consumer.seek(partition, offset)
        self._unopened.discard(partition)

    def _look_at_all_layouts(self, partitions: int, check_layout: CheckLayout) -> None:
        """Before the first frame, check the group's commits for every partition; a new one has none."""
        if self._looked_at_all:
            return
        for committed in self._consumer.committed(range(partitions)).values():
            if former := OffsetMetadata.parsed(committed.metadata).layout:
                check_layout(former)
        self._looked_at_all = True

    def _settle_doubts(self) -> None:
        """Read on if the log is still the one that was read. While the broker is away, partitions in doubt wait."""
        for partition in self._history.in_doubt:
            each = self.open[partition]
            try:
                found = self._history.differs(partition, each.past, each.position)
                if found:
                    self._history.say(partition, found, each.position)
                    each.go_back_to(found, StreamClock(self._rules.allowed_lateness_seconds))
                self._follow_commits(partition, each)
                self._consumer.seek(partition, each.position)
            except BrokerAwayError:
                return
            self._history.settle(partition, each.past)

    def _follow_commits(self, partition: int, each: FeedPartition) -> None:
        """Go back to the commit if that went back: what was made of later frames may be gone as well."""
        committed = self._consumer.committed([partition]).get(partition, Position(0)).offset
        if each.recorded is None or committed >= min(each.recorded, each.position):
            return
        first, _ = self._consumer.watermark_offsets([partition])[partition]
        each.go_back(max(first, committed))
        each.recorded = committed
        _log.warning(
            f"{self._name}-{partition}: the committed offset moved back: reading again from offset {each.position}"
        )
