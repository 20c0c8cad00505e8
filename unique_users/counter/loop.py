"""The counter's loop: records of `bucketed` become counts of unique users."""

import logging
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from unique_users.aggregation.counts import Count, add_up, users_in
from unique_users.aggregation.marks import Why, gap_of_deleted
from unique_users.clients.connect import lag
from unique_users.clients.protocols import Batch, Consumer, Position, TopicState
from unique_users.config.schema import Config
from unique_users.counter.line import LineSource
from unique_users.counter.partition import Ledger, Stores
from unique_users.counter.publisher import Due, Publisher
from unique_users.counter.recovery import Opening
from unique_users.errors import BrokerAwayError, DeliveryError, LockedError, StateError
from unique_users.event_time.buckets import INTERVALS, Bucket, Calendar
from unique_users.event_time.rollup import Cascade
from unique_users.log_history.check import HistoryCheck
from unique_users.log_history.lost_records import ANSWER_SECONDS, look_for_loss, say_trimmed, say_unreadable
from unique_users.messages.dead_letters import DeadLetter
from unique_users.messages.offset_metadata import late_text
from unique_users.messages.partitioning import NEW_TOPIC
from unique_users.reports.report import BucketCount, Format, Summary
from unique_users.runtime.pulse import alive, busy
from unique_users.runtime.signals import Stop
from unique_users.runtime.timer import NO_PARTITION_SECONDS, Every

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
SURE_SECONDS = 1.0  # a commit that was accepted since tells that the partitions are ours; sessions last longer
LOCK_SECONDS = 30.0  # what a process that hands a partition over is given to let go of its state


class Counting:
    """Reads `bucketed`, keeps the state, publishes and reports counts.

    Call step until it returns False, then close. Raises StateError when the state cannot be trusted or written.
    """

    def __init__(
        self,
        config: Config,
        consumer: Consumer,
        describe: Callable[[], TopicState],
        stores: Stores,
        history: HistoryCheck,
        new_publisher: Callable[[], Publisher],
        line: LineSource,
        stop: Stop,
        monotonic: Callable[[], float],
        wall_clock: Callable[[], float],
        form: Format = "text",
        until: Mapping[int, int] | None = None,
        drop: Collection[str] = (),
        missing: Callable[[], tuple[str, ...]] = tuple,  # topics that are gone for now
        recreated: Callable[[], int] = int,  # how often `counts` became another topic
    ) -> None:
        self._config = config
        self._consumer = consumer
        self._describe = describe
        self._new_publisher = new_publisher
        self._publisher: Publisher | None = None
        self._line = line
        self._stop = stop
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._form = form
        self._until = until
        self._missing = missing
        self._recreated = recreated
        self._published_to = recreated()  # what `recreated` said when what is held was published last
        self._ledgers: dict[int, Ledger] = {}
        self._unopened: dict[int, float] = {}  # partitions taken, and since when their state is waited for
        self._committed: dict[int, int] = {}
        self._sure_at = monotonic()
        self._new = Counter[Bucket]()
        self._closed: dict[Bucket, Count] = {}  # the last counts of what was dropped since the last report
        self._closed_why: dict[Bucket, set[Why]] = {}
        settings = config.counter
        self._cascade = Cascade(Calendar(settings.timezone), settings.intervals, settings.estimates)
        self._history = history
        self._opening = Opening(config, consumer, describe, stores, self._cascade, history, wall_clock, drop)
        self._messages_read = 0
        self._save_due = Every(min(settings.save_seconds, settings.publish_seconds), monotonic)
        self._report_due = Every(settings.report_seconds, monotonic)
        self._no_partition_due = Every(NO_PARTITION_SECONDS, monotonic)

    def step(self) -> bool:
        """Poll once and handle what came; return False when a stop is requested or the end is reached."""
        if self._stop.requested:
            return False
        alive()
        polled = self._consumer.poll(min(POLL_SECONDS, self._save_due.remaining(), self._report_due.remaining()))
        for partition in polled.lost:
            self._let_go(partition)
        self._history.notice({p: ledger.past for p, ledger in self._ledgers.items()})
        for batch in polled.batches:
            if batch.partition in self._ledgers:
                self._handle(batch)
        # Not before: what was polled of a partition that is opened now came from another position.
        self._unopened.update(dict.fromkeys(polled.taken, self._monotonic()))
        self._open_partitions()
        self._settle_doubts()
        if self._save_due.due():
            self.save()
        if self._report_due.due() and self._until is None:
            self.report()
        return not self._caught_up()

    def save(self) -> None:
        """Bring state and broker up to date.

        1. make sure that the topic is still the same, also when nothing came: a changed one may bring nothing more
        2. hand over what came for buckets that are gone; a save goes no further than what has arrived
        3. save
        4. let the group's offsets follow; the group refuses that to a member that has lost its partitions unnoticed
        5. publish what is saved while that answer is fresh, then drop what is closed and past its retention
        """
        if self._ledgers and not self._still_the_same_topic():
            return
        self._look_at_counts()
        self._deliver_late()
        with busy():
            for ledger in self._ledgers.values():
                ledger.save()
        moved = {
            p: ledger
            for p, ledger in self._ledgers.items()
            if ledger.saved_offset != self._committed.get(p) or ledger.unpublished or ledger.facts.withdrawn
        }
        if not self._offsets_follow(moved):
            return
        self._publish()
        self._follow_line()
        with busy():
            for ledger in self._ledgers.values():
                self._drop_old(ledger)

    def report(self, *, everything: bool = False) -> None:
        """Print the buckets that changed since the last report, or every bucket held, and the summary."""
        self._report_counts(everything=everything)
        changed = sum(bucket.interval in self._config.counter.intervals for bucket in self._new)
        text = "\n".join(self._summary(changed).lines(self._form))
        with busy():
            print(text, flush=True)
        self._new.clear()
        self._closed.clear()
        self._closed_why.clear()
        self._messages_read = 0

    @busy()
    def _report_counts(self, *, everything: bool) -> None:
        for ledger in self._ledgers.values():
            self._take_new(ledger)
        buckets = set().union(*(x.buckets() for x in self._ledgers.values())) if everything else self._new
        shown = [bucket for bucket in buckets if bucket.interval in self._config.counter.intervals]
        for bucket in sorted(shown, key=lambda bucket: (INTERVALS.index(bucket.interval), bucket.start)):
            count = add_up([self.counts([bucket])[bucket], self._closed.get(bucket, 0)])
            new = users_in(count) if everything else self._new[bucket]
            found = BucketCount(bucket.start, count, new, bucket.interval, self._why(bucket))
            print(found.line(self._form, self._cascade.calendar))
        sys.stdout.flush()  # the summary asks the broker, and need not keep the counts from those who wait for them

    def counts(self, buckets: Iterable[Bucket]) -> dict[Bucket, Count]:
        """The unique users of these buckets, over the partitions held: a user stands in one of them."""
        return {bucket: add_up(ledger.count(bucket) for ledger in self._ledgers.values()) for bucket in buckets}

    def _why(self, bucket: Bucket) -> tuple[Why, ...]:
        """Why the count of a bucket over the partitions held may be wrong."""
        found = self._closed_why.get(bucket, set()).union(*(ledger.why(bucket) for ledger in self._ledgers.values()))
        return tuple(sorted(found))

    def close(self) -> None:
        """Save, publish, report what changed since the last report, leave the group."""
        self.save()
        if self._until is not None:
            self._line.look()  # what is held at the end must not depend on when the line was looked at last
            self._follow_line()
            self.save()
        if unpublished := self._unpublished():
            _log.info(f"{unpublished} counts are saved but not published: the next start publishes them")
        if undelivered := sum(len(ledger.undelivered) for ledger in self._ledgers.values()):
            name = self._config.topics.rejected.name
            _log.info(f"late records that are not in {name!r} yet: {undelivered}; the next start reads them again")
        self.report(everything=self._until is not None)
        for ledger in self._ledgers.values():
            ledger.close()
        self._let_go_of_publisher()
        self._history.close()
        self._consumer.close()

    def _open_partitions(self) -> None:
        try:
            bounds = self._opening.bounds(self._unopened)
        except BrokerAwayError:
            return
        for partition in bounds:
            alive()
            since = self._unopened[partition]
            try:
                ledger = self._opening.ledger(partition, bounds[partition])
            except BrokerAwayError:
                return
            except LockedError:
                # Its former owner is about to let go of it, or is a process that has nothing to do with this one.
                if self._monotonic() - since > LOCK_SECONDS:
                    raise
                continue
            self._ledgers[partition] = ledger
            self._consumer.start(partition, ledger.position)
            del self._unopened[partition]

    def _settle_doubts(self) -> None:
        """Read on where the log still is the one that was counted. While the broker is away, what is in doubt waits."""
        for partition in self._history.in_doubt:
            ledger = self._ledgers[partition]
            try:
                found = self._history.differs(partition, ledger.past, ledger.position)
                if found and found.back_to is None:
                    self._count_again(partition)
                    continue
                if found:
                    self._history.say(partition, found, ledger.position, ledger.go_back(found))
                else:  # what is cut off may be what it still had to catch up with
                    _, end = self._consumer.bounds([partition], ANSWER_SECONDS)[partition]
                    ledger.publish_from = min(ledger.publish_from, end)
                self._consumer.start(partition, ledger.position)
            except BrokerAwayError:
                return
            self._history.settle(partition, ledger.past)

    def _handle(self, batch: Batch) -> None:
        topic = self._config.topics.bucketed.name
        ledger = self._ledgers[batch.partition]
        first = batch.offsets[0]
        if not self._history.continues(ledger.past, ledger.position, batch):
            return
        deleted = first > ledger.position and look_for_loss(self._consumer, topic, batch, ledger.position)
        missing = gap_of_deleted(
            Why.RECORDS_DELETED, ledger.floor, batch.timestamps_ms[0], self._config.bucketer.future_seconds_max
        )
        if Why.STATE_LOST in ledger.end_gaps(missing.end):
            say_trimmed(topic, batch, missing.end)
        if deleted:
            ledger.mark([missing])
        if batch.unreadable:
            say_unreadable(topic, batch)
            ledger.mark([missing._replace(why=Why.RECORDS_UNREADABLE)])
        with busy():
            ledger.add(batch, self._monotonic())
        self._messages_read += len(batch.offsets)

    def _let_go(self, partition: int) -> None:
        """Save and close a partition that belongs to another member now."""
        self._unopened.pop(partition, None)
        self._history.forget(partition)
        self._committed.pop(partition, None)
        ledger = self._ledgers.pop(partition, None)
        if ledger is not None:
            self._take_new(ledger)
            with busy():
                ledger.save()
                ledger.close()

    def _still_the_same_topic(self) -> bool:
        """Whether what was read belongs to the topic that the state was made from, as far as is known now."""
        try:
            topic = self._describe()
        except BrokerAwayError:
            return True  # the state says which topic it is of, so the next answer is soon enough
        for partition, ledger in list(self._ledgers.items()):
            if topic.partitions != ledger.origin.partitions:
                message = (
                    f"topic {ledger.origin.topic!r} had {ledger.origin.partitions} partitions, now it has"
                    f" {topic.partitions}: a minute may stand in two of them. {NEW_TOPIC}"
                )
                raise StateError(message)
            if topic.id != ledger.origin.topic_id:
                self._count_again(partition)
        return all(ledger.origin.topic_id == topic.id for ledger in self._ledgers.values()) and bool(self._ledgers)

    def _count_again(self, partition: int) -> None:
        """The topic was made anew while it was read: leave unsaved what is not of one topic, and open again."""
        ledger = self._ledgers.pop(partition)
        ledger.close()
        self._history.forget(partition)
        self._committed.pop(partition, None)
        topic = ledger.origin.topic
        _log.info(f"{topic}-{partition}: was deleted and made again while it was counted; opening its state again")
        self._unopened[partition] = self._monotonic()
        if not ledger.origin.topic_id:
            self._opening.begin_anew(partition)

    def _offsets_follow(self, moved: Mapping[int, Ledger]) -> bool:
        positions = {
            p: Position(ledger.saved_offset, late_text(ledger.facts.late))
            for p, ledger in moved.items()
            if ledger.saved_offset is not None
        }
        asked_at = self._monotonic()
        try:
            done = not positions or self._consumer.commit(positions, ANSWER_SECONDS)
        except BrokerAwayError:
            return False  # the report says so, and the state holds the position that counts
        if done:
            self._committed.update({p: position.offset for p, position in positions.items()})
            self._sure_at = asked_at
        return done

    def _missing_topics(self) -> tuple[str, ...]:
        """The topics that are gone. What is in flight is let go of: it would come into the next topic of that name."""
        missing = self._missing()
        if missing:
            self._let_go_of_publisher()
        return missing

    def _look_at_counts(self) -> None:
        """Everything held is due again when `counts` is another topic than what was published went to."""
        if self._missing_topics() or (now := self._recreated()) == self._published_to:
            return
        self._published_to = now
        self._let_go_of_publisher()
        for ledger in self._ledgers.values():
            ledger.unpublished |= ledger.buckets()
        _log.info(
            f"topic {self._config.topics.counts.name!r} was deleted and recreated: publishing all that is held again"
        )

    def _publish(self) -> None:
        """Publish what is saved. What does not arrive stays due, and what may be another member's by now."""
        if self._missing_topics():
            return  # what is sent to no topic would hold the loop up, and what was counted of one that is gone is void
        for partition, ledger in self._ledgers.items():
            alive()
            if self._monotonic() - self._sure_at > SURE_SECONDS:
                return  # frozen meanwhile: a successor may have published larger counts
            due = ledger.take_unpublished()
            shown = {b: count for b, count in due.items() if b.interval in self._config.counter.intervals}
            what = ledger.what_to_publish(shown)
            if what.nothing:
                continue
            if self._arrives(partition, what):
                ledger.mark_published(what)
            else:
                ledger.unpublished.update(due)

    def _deliver_late(self) -> None:
        """Send what is too late to the dead-letter topic. What does not arrive is sent again, after a crash as well."""
        for ledger in self._ledgers.values():
            if not ledger.undelivered:
                continue
            if self._sent(partial(_reject, ledger.undelivered)):
                ledger.mark_delivered()
            else:
                self._let_go_of_publisher()  # what it still holds is sent again

    def _follow_line(self) -> None:
        """Mark what the bucketers have missed, and note how far the low watermark is."""
        line = self._line.current()
        if line is None:
            return
        gaps = [gap for each in line.committed.values() for gap in each.metadata.gaps]
        for partition, ledger in self._ledgers.items():
            if gaps:
                ledger.mark(gaps)
            if line.low_watermark is not None and partition in line.bucketed_ends:
                ledger.follow(line.low_watermark, line.bucketed_ends[partition])

    def _arrives(self, partition: int, due: Due) -> bool:
        return self._sent(lambda publisher: publisher.publish(partition, due, ANSWER_SECONDS))

    def _sent(self, send: Callable[[Publisher], bool]) -> bool:
        """Whether what `send` sends has arrived."""
        if self._missing_topics():
            return False  # it would hold the loop up, and what was counted of a topic that is gone is void
        try:
            if self._publisher is None:
                self._publisher = self._new_publisher()
            return send(self._publisher)
        except BrokerAwayError:
            return False
        except DeliveryError:
            self._let_go_of_publisher()
            return False

    def _let_go_of_publisher(self) -> None:
        if self._publisher is not None:
            self._publisher.close()
        self._publisher = None

    def _unpublished(self) -> int:
        return sum(len(ledger.unpublished) for ledger in self._ledgers.values())

    def _drop_old(self, ledger: Ledger) -> None:
        dropped = ledger.drop_old()
        if self._until is None:
            for bucket, count in dropped.items():
                self._closed[bucket] = add_up([self._closed.get(bucket, 0), count])
                if why := ledger.why(bucket):
                    self._closed_why.setdefault(bucket, set()).update(why)
            return
        for bucket in dropped:  # the only report is of what is held at the end
            ledger.new.pop(bucket, None)

    def _take_new(self, ledger: Ledger) -> None:
        self._new.update(ledger.new)
        ledger.new.clear()

    def _summary(self, buckets_changed: int) -> Summary:
        ledgers = self._ledgers.values()
        line = self._line.current()
        missing = self._missing_topics()
        positions = {p: ledger.position for p, ledger in self._ledgers.items()}
        summary = Summary(
            int(self._wall_clock()),
            self._messages_read,
            buckets_changed,
            None if self._config.topics.bucketed.name in missing else lag(self._consumer, positions),
            sum(ledger.unreadable for ledger in ledgers),
            tuple(sorted(self._ledgers)),
            next((ledger.origin.partitions for ledger in ledgers), None),
            line.unread if line else None,
            line.behind_seconds if line else None,
            line.totals() if line else None,
            missing,
        )
        for ledger in ledgers:
            ledger.unreadable = 0
        return summary

    def _caught_up(self) -> bool:
        if self._until is None or self._unopened or self._history.in_doubt:
            return False
        if not self._ledgers:
            return self._no_partition_due.due()
        try:
            return all(self._consumer.position(p) >= self._until.get(p, 0) for p in self._ledgers)
        except BrokerAwayError:
            return False


def _reject(letters: Sequence[DeadLetter], publisher: Publisher) -> bool:
    return publisher.reject(letters, ANSWER_SECONDS)
