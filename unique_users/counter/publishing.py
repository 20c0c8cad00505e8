"""Publishing what is saved, and sending late records to the dead-letter topic, as far as the broker allows."""

import logging
from collections.abc import Callable, Sequence
from functools import partial

from unique_users.clients.protocols import Topics
from unique_users.config.schema import Config
from unique_users.counter.assigned_partitions import CountedPartitions
from unique_users.counter.counts_topic import Due, Publisher
from unique_users.counter.partition import CountedPartition
from unique_users.errors import BrokerAwayError, BrokerError, DeliveryError
from unique_users.event_time.buckets import Bucket
from unique_users.messages.dead_letters import DeadLetter
from unique_users.messages.merged_counts import ReadCounts, every_bucket
from unique_users.partition_log.deleted_records import ANSWER_SECONDS
from unique_users.reports.examples import Example, Examples
from unique_users.runtime.heartbeat import alive, busy

_log = logging.getLogger(__name__)

LOOK_FOR_OLD_SECONDS = 600.0  # between two looks at least: a replay passes a day of event time in seconds


class Publishing:
    """Publishes with a Publisher that is replaced after every failure. What does not arrive stays due.

    `read_counts` reads the buckets of `counts` that its argument wants. Raises BrokerAwayError, and BrokerError if that
    is refused.
    """

    def __init__(
        self,
        config: Config,
        topics: Topics,
        new_publisher: Callable[[], Publisher],
        read_counts: Callable[[Callable[[Bucket], bool]], ReadCounts],
        monotonic: Callable[[], float],
    ) -> None:
        self._config = config
        self._topics = topics
        self._new_publisher = new_publisher
        self._read_counts = read_counts
        _, self._breaks = topics.answers()
        self._monotonic = monotonic
        self._examples = Examples()
        self._publisher: Publisher | None = None
        self._looked_for_old_at: float | None = None
        self._may_read = True  # when it last looked for old ones
        self._published_to = self._recreated()  # the value of `_recreated` when everything held was last published

    def missing_topics(self) -> tuple[str, ...]:
        """The topics that are gone. What is in flight is dropped: it would end up in the next topic of that name."""
        missing = self._topics.missing()
        if missing:
            self.close()
        return missing

    def look_at_counts(self, partitions: CountedPartitions) -> None:
        """Make everything held due again if `counts` is another topic now, or the broker was away: it may lack some."""
        if self.missing_topics():
            return
        _, breaks = self._topics.answers()
        if breaks != self._breaks:
            self._breaks = breaks
            for each in partitions.open.values():
                each.publish_counts_again()
        if (now := self._recreated()) == self._published_to:
            return
        self._published_to = now
        self.close()
        for each in partitions.open.values():
            each.publish_again()
        name = self._config.topics.counts.name
        _log.info(f"topic {name!r} was deleted and recreated: publishing all counts again")

    def publish(self, partitions: CountedPartitions) -> bool:
        """Publish what is saved. What does not arrive stays due, and so does what another member may own by now.

        Returns whether all has arrived that is to be published now.
        """
        if self.missing_topics():
            return False  # sending to a missing topic would block the loop, and counts of a topic that is gone are void
        if not self._settled([each for each in partitions.open.values() if each.must_settle]):
            return False
        if self._look_for_old([each for each in partitions.open.values() if each.may_have_old]):
            partitions.commit()  # that took a while
        arrived = True
        for number, each in partitions.open.items():
            alive()
            if not partitions.sure():
                return False
            due = each.take_unpublished()
            shown = {b: count for b, count in due.items() if b.interval in self._config.counter.intervals}
            what = each.what_to_publish(shown)
            if what.nothing:
                continue
            if not self._arrives(number, what):
                each.unpublished.update(due)
                arrived = False
                continue
            each.mark_published(what)
            # What leaves the topic does so once the topic says it: now, as this may be the last publication of a run.
            if what.removed is not None and not (partitions.sure() and self._leaves(number, each)):
                arrived = False
        return arrived

    def deliver_late(self, partitions: CountedPartitions) -> None:
        """Send late records to the dead-letter topic. What does not arrive is sent again, even after a crash."""
        for each in partitions.open.values():
            if each.undelivered:
                self._deliver(each)

    def say_what_is_left(self, partitions: CountedPartitions) -> None:
        """Say what is left for the next start."""
        if unpublished := sum(len(each.unpublished) for each in partitions.open.values()):
            _log.warning(f"{unpublished} counts are saved but not published: the next start publishes them")
        if undelivered := sum(len(each.undelivered) for each in partitions.open.values()):
            name = self._config.topics.rejected.name
            _log.warning(f"late records not yet in {name!r}: {undelivered}; the next start reads them again")

    def close(self) -> None:
        """Close the publisher and drop what it has in flight."""
        if self._publisher is not None:
            self._publisher.close()
        self._publisher = None

    def _settled(self, new: Sequence[CountedPartition]) -> bool:
        """Withdraw what former states have published beyond what the log holds. False if the broker is away.

        A lost state cannot tell that the log was cut back, but its counts can.
        """
        if not new:
            return True
        name = self._config.topics.counts.name
        try:
            read = self._read_counts(every_bucket)
        except BrokerAwayError:
            return False
        except BrokerError as error:
            _log.warning(f"cannot compare with what was published before, which may be too high: {error}")
            read = ReadCounts()
        for each in new:
            with busy():
                too_high = each.settle(read.former(each.origin.partition, each.generation))
            if too_high:
                _log.warning(
                    f"{each.origin.topic}-{each.origin.partition}: {too_high} counts in {name!r} from a state that is"
                    " gone are higher than what the topic holds, which was cut back: replacing them"
                )
        return True

    def _look_for_old(self, ready: Sequence[CountedPartition]) -> bool:
        """Find the counts in the topic that are older than they are kept: no state remembers what it has dropped.

        Returns whether there are some.
        """
        now = self._monotonic()
        lately = self._looked_for_old_at is not None and now < self._looked_for_old_at + LOOK_FOR_OLD_SECONDS
        # A state that never looked, perhaps a rebuilt one, would publish what others have removed.
        lately = lately and not (self._may_read and any(each.never_looked for each in ready))
        if not ready or lately:
            return False
        name = self._config.topics.counts.name
        try:
            read = self._read_counts(lambda bucket: any(each.is_old(bucket) for each in ready))
        except BrokerAwayError:
            return False
        except BrokerError as error:
            if self._looked_for_old_at is None:
                _log.warning(f"counts in {name!r} stay there for good, because they cannot be read: {error}")
            self._looked_for_old_at, self._may_read = now, False
            return False
        self._looked_for_old_at, self._may_read = now, True
        for each in ready:
            where = f"{each.origin.topic}-{each.origin.partition}"
            partition = each.origin.partition
            if stay := each.note_old(read.of_partition(partition), read.removed(partition, each.generation)):
                said = f"{stay} counts older than counter.publish_keep_days were in {name!r} before that key existed"
                _log.info(f"{where}: {said}: they stay")
            if each.old:
                said = f"{len(each.old)} counts in {name!r} are older than counter.publish_keep_days: deleting them"
                _log.info(f"{where}: {said}")
        return any(each.has_to_tell for each in ready)

    def _deliver(self, each: CountedPartition) -> None:
        if self._sent(partial(_reject, each.undelivered)):
            for line in self._examples.lines(map(_example, each.undelivered), self._monotonic()):
                _log.warning(line)
            each.mark_delivered()
        else:
            self.close()  # what it still holds is sent again

    def _leaves(self, partition: int, each: CountedPartition) -> bool:
        """Have leave the topic what it says leaves it. Returns whether that has arrived."""
        what = each.what_to_publish({})
        if not what.nothing:
            if not self._arrives(partition, what):
                return False
            each.mark_published(what)
        return True

    def _arrives(self, partition: int, due: Due) -> bool:
        return self._sent(lambda publisher: publisher.publish(partition, due, ANSWER_SECONDS))

    def _sent(self, send: Callable[[Publisher], bool]) -> bool:
        """Whether what `send` sends has arrived."""
        if self.missing_topics():
            return False  # it would block the loop, and counts of a topic that is gone are void
        try:
            if self._publisher is None:
                self._publisher = self._new_publisher()
            return send(self._publisher)
        except BrokerAwayError:
            return False
        except DeliveryError:
            self.close()
            return False

    def _recreated(self) -> int:
        return self._topics.recreated(self._config.topics.counts.name)


def _example(letter: DeadLetter) -> Example:
    return Example(letter.reason, letter.detail, f"{letter.topic}-{letter.partition}@{letter.offset}", letter.value)


def _reject(letters: Sequence[DeadLetter], publisher: Publisher) -> bool:
    return publisher.reject(letters, ANSWER_SECONDS)
