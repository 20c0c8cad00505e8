"""The partitions of `bucketed` that this member of the group has been assigned.

Longer than other modules: a rebalance, a recreated topic and a log in doubt all change a partition, and must agree.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping

from unique_users.aggregation.completeness import Why, gap_of_deleted
from unique_users.aggregation.counts import Count, add_up
from unique_users.clients.connect import lag
from unique_users.clients.protocols import Batch, Consumer, Polled, Position, Topics
from unique_users.config.schema import Config
from unique_users.counter.partition import CountedPartition
from unique_users.counter.recovery import Recovery
from unique_users.errors import BrokerAwayError, LockedError, StateError
from unique_users.event_time.buckets import Bucket
from unique_users.messages.offset_metadata import late_text
from unique_users.messages.partitioning import NEW_TOPIC
from unique_users.partition_log.deleted_records import ANSWER_SECONDS, look_for_loss, say_trimmed, say_unreadable
from unique_users.pipeline.progress import Progress
from unique_users.runtime.heartbeat import alive, busy
from unique_users.runtime.signals import Stop

_log = logging.getLogger(__name__)

SURE_SECONDS = 1.0  # a commit accepted this recently shows that the partitions are ours; sessions last longer
HANDOVER_SECONDS = 30.0  # how long a process that hands a partition over has to release its state


class CountedPartitions:
    """Opens each assigned partition with its state, and keeps it right from then on.

    `open` holds the partitions being counted; others wait until the broker answers and their state is free. With
    `until`, an end offset for each partition, it knows when everything up to there is counted. Raises StateError when a
    state cannot be trusted or written.
    """

    def __init__(
        self,
        config: Config,
        consumer: Consumer,
        topics: Topics,
        recovery: Recovery,
        stop: Stop,
        until: Mapping[int, int] | None = None,
    ) -> None:
        self._name = config.topics.bucketed.name
        self._future_seconds_max = config.bucketer.future_seconds_max
        self._consumer = consumer
        self._topics = topics
        self._recovery = recovery
        self._history = recovery.history
        self._monotonic = stop.monotonic
        self._until = until
        self._unopened: dict[int, float] = {}  # assigned, and since when they wait for their state
        self._committed: dict[int, int] = {}
        self._sure_at = self._monotonic()
        self._new = Counter[Bucket]()  # of partitions that were revoked since the last report
        self.open: dict[int, CountedPartition] = {}

    def poll(self, timeout_seconds: float) -> Polled:
        """Return what has arrived; revoked partitions are saved and closed."""
        polled = self._consumer.poll(timeout_seconds)
        for partition in polled.revoked:
            self._revoke(partition)
        self._history.notice({p: each.past for p, each in self.open.items()})
        return polled

    def add(self, batch: Batch) -> int:
        """Count a batch, and return its number of messages; 0 if it is not the next one."""
        partition = self.open.get(batch.partition)
        if partition is None or not self._history.continues(partition.past, partition.position, batch):
            return 0
        first, position = batch.offsets[0], partition.position
        deleted = first > position and look_for_loss(self._consumer, self._name, batch, position)
        missing = gap_of_deleted(Why.RECORDS_DELETED, partition.floor, batch.timestamps_ms[0], self._future_seconds_max)
        if Why.STATE_LOST in partition.end_gaps(missing.end):
            say_trimmed(self._name, batch, missing.end)
        if deleted:
            partition.mark([missing])
        if batch.unreadable:
            say_unreadable(self._name, batch)
            partition.mark([missing._replace(why=Why.RECORDS_UNREADABLE)])
        with busy():
            partition.add(batch, self._monotonic())
        return len(batch.offsets)

    def follow(self, assigned: Iterable[int]) -> None:
        """Open what is assigned, and settle doubts about what is counted. Call it after handling a poll.

        Not before: records already polled of a partition that is opened now came from another position.
        """
        self._unopened.update(dict.fromkeys(assigned, self._monotonic()))
        self._open_assigned()
        self._settle_doubts()

    def still_the_same_topic(self) -> bool:
        """Whether what was read belongs to the topic that the states were made from, as far as is known now."""
        if not self.open:
            return True
        try:
            topic = self._topics.current(self._name)
        except BrokerAwayError:
            return True  # the state says which topic it belongs to, so the next answer is soon enough
        for partition, each in list(self.open.items()):
            if topic.partitions != each.origin.partitions:
                message = (
                    f"topic {each.origin.topic!r} had {each.origin.partitions} partitions, now it has"
                    f" {topic.partitions}: a minute may be in two of them. {NEW_TOPIC}"
                )
                raise StateError(message)
            if topic.id != each.origin.topic_id:
                self._count_again(partition)
        return all(each.origin.topic_id == topic.id for each in self.open.values()) and bool(self.open)

    @busy()
    def save(self) -> None:
        """Save what was counted, with the positions."""
        for each in self.open.values():
            each.save()

    def commit(self) -> bool:
        """Let the group's offsets follow what is saved; False if the group refuses, or does not answer.

        It refuses a member that has lost its partitions without noticing.
        """
        moved = {
            p: each
            for p, each in self.open.items()
            if each.saved_offset != self._committed.get(p) or each.unpublished or each.has_to_tell
        }
        positions = {
            p: Position(each.saved_offset, late_text(each.facts.late))
            for p, each in moved.items()
            if each.saved_offset is not None
        }
        asked_at = self._monotonic()
        try:
            done = not positions or self._consumer.commit(positions, ANSWER_SECONDS)
        except BrokerAwayError:
            return False  # the report says so, and the position that counts is in the state
        if done:
            self._committed.update({p: position.offset for p, position in positions.items()})
            self._sure_at = asked_at
        return done

    def sure(self) -> bool:
        """Whether the group recently confirmed that the partitions are ours. After a freeze, a successor may count."""
        return self._monotonic() - self._sure_at <= SURE_SECONDS

    def follow_progress(self, line: Progress | None) -> None:
        """Mark what the bucketers have missed, and note how far the stream is."""
        if line is None:
            return
        gaps = [gap for each in line.committed.values() for gap in each.metadata.gaps]
        for partition, each in self.open.items():
            if each.origin.topic_id != line.bucketed_id:
                continue  # this look was at a former topic, and says nothing about the frames of this one
            if gaps:
                each.mark(gaps)
            each.miss_frames(line.missing_from)
            if partition in line.bucketed_ends:
                each.follow(line.low_watermark, line.bucketed_ends[partition], line.clock)

    def not_ready(self) -> str:
        """Why records cannot be counted yet; empty if they can."""
        if self._unopened:
            return "opening states"
        return "" if self.open else "no partition is assigned"

    def buckets(self) -> set[Bucket]:
        """All buckets held."""
        return set().union(*(each.buckets() for each in self.open.values()))

    def count(self, bucket: Bucket) -> Count:
        """The unique users of a bucket over all partitions: each user is in one of them."""
        return add_up(each.count(bucket) for each in self.open.values())

    def why(self, bucket: Bucket) -> set[Why]:
        """Why the count of a bucket may be wrong."""
        return set().union(*(each.why(bucket) for each in self.open.values()))

    def take_new(self) -> Counter[Bucket]:
        """How many users are new in each bucket since the last call."""
        for each in self.open.values():
            self._take_new(each)
        new, self._new = self._new, Counter()
        return new

    def lag(self) -> int | None:
        """Records that are not counted yet; None if the broker does not answer."""
        return lag(self._consumer, {p: each.position for p, each in self.open.items()})

    @property
    def has_end(self) -> bool:
        """Whether to count only up to given end offsets."""
        return self._until is not None

    def at_end(self) -> bool:
        """Whether everything up to `until` is counted."""
        if self._until is None or self._unopened or self._history.in_doubt:
            return False
        try:
            return all(self._consumer.position(p) >= self._until.get(p, 0) for p in self.open)
        except BrokerAwayError:
            return False

    def close(self) -> None:
        """Close the states and leave the group. Saves nothing."""
        for each in self.open.values():
            each.close()
        self._history.close()
        self._consumer.close()

    def _open_assigned(self) -> None:
        try:
            low_high = self._recovery.watermark_offsets(self._unopened)
        except BrokerAwayError:
            return
        for partition in low_high:
            alive()
            since = self._unopened[partition]
            try:
                opened = self._recovery.recover(partition, low_high[partition])
            except BrokerAwayError:
                return
            except LockedError:
                # Its former owner is about to release it, or is a process that has nothing to do with this one.
                if self._monotonic() - since > HANDOVER_SECONDS:
                    raise
                continue
            self.open[partition] = opened
            self._consumer.seek(partition, opened.position)
            del self._unopened[partition]

    def _settle_doubts(self) -> None:
        """Read on if the log is still the one that was counted. While the broker is away, partitions in doubt wait."""
        for partition in self._history.in_doubt:
            each = self.open[partition]
            try:
                found = self._history.differs(partition, each.past, each.position)
                if found and found.back_to is None:
                    self._count_again(partition)
                    continue
                if found:
                    self._history.say(partition, found, each.position, each.go_back(found))
                else:  # what is cut off may be what it had yet to catch up with
                    _, end = self._consumer.watermark_offsets([partition], ANSWER_SECONDS)[partition]
                    each.publish_from = min(each.publish_from, end)
                self._consumer.seek(partition, each.position)
            except BrokerAwayError:
                return
            self._history.settle(partition, each.past)

    def _revoke(self, partition: int) -> None:
        """Save and close a partition that now belongs to another member."""
        self._unopened.pop(partition, None)
        self._history.forget(partition)
        self._committed.pop(partition, None)
        each = self.open.pop(partition, None)
        if each is not None:
            self._take_new(each)
            with busy():
                each.save()
                each.close()

    def _count_again(self, partition: int) -> None:
        """The topic was recreated while it was read: discard what is unsaved, which may mix two topics, and reopen."""
        each = self.open.pop(partition)
        each.close()
        self._history.forget(partition)
        self._committed.pop(partition, None)
        topic = each.origin.topic
        _log.warning(
            f"{topic}-{partition}: was deleted and recreated while it was being counted: opening its state again"
        )
        self._unopened[partition] = self._monotonic()
        if not each.origin.topic_id:
            self._recovery.begin_anew(partition)

    def _take_new(self, each: CountedPartition) -> None:
        self._new.update(each.new)
        each.new.clear()
