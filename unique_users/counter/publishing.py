"""Publishing what is saved, and handing late records over to the dead-letter topic, as far as the broker allows."""

import logging
from collections.abc import Callable, Sequence
from functools import partial

from unique_users.clients.protocols import Topics
from unique_users.config.schema import Config
from unique_users.counter.partition import CountedPartition
from unique_users.counter.partitions import CountedPartitions
from unique_users.counter.publisher import Due, Publisher
from unique_users.errors import BrokerAwayError, DeliveryError
from unique_users.log_history.lost_records import ANSWER_SECONDS
from unique_users.messages.dead_letters import DeadLetter
from unique_users.runtime.pulse import alive

_log = logging.getLogger(__name__)


class Publishing:
    """Publishes with a Publisher that is replaced after every failure. What does not arrive stays due."""

    def __init__(self, config: Config, topics: Topics, new_publisher: Callable[[], Publisher]) -> None:
        self._config = config
        self._topics = topics
        self._new_publisher = new_publisher
        self._publisher: Publisher | None = None
        self._published_to = self._recreated()  # what `_recreated` said when what is held was published last

    def missing_topics(self) -> tuple[str, ...]:
        """The topics that are gone. What is in flight is let go of: it would come into the next topic of that name."""
        missing = self._topics.missing()
        if missing:
            self.close()
        return missing

    def look_at_counts(self, partitions: CountedPartitions) -> None:
        """Everything held is due again when `counts` is another topic than what was published went to."""
        if self.missing_topics() or (now := self._recreated()) == self._published_to:
            return
        self._published_to = now
        self.close()
        for each in partitions.open.values():
            each.unpublished |= each.buckets()
        name = self._config.topics.counts.name
        _log.info(f"topic {name!r} was deleted and recreated: publishing all that is held again")

    def publish(self, partitions: CountedPartitions) -> None:
        """Publish what is saved. What does not arrive stays due, and what may be another member's by now."""
        if self.missing_topics():
            return  # what is sent to no topic would hold the loop up, and what was counted of one that is gone is void
        for number, each in partitions.open.items():
            alive()
            if not partitions.sure():
                return
            due = each.take_unpublished()
            shown = {b: count for b, count in due.items() if b.interval in self._config.counter.intervals}
            what = each.what_to_publish(shown)
            if what.nothing:
                continue
            if self._arrives(number, what):
                each.mark_published(what)
            else:
                each.unpublished.update(due)

    def deliver_late(self, partitions: CountedPartitions) -> None:
        """Send what is too late to the dead-letter topic. What does not arrive is sent again, after a crash as well."""
        for each in partitions.open.values():
            if each.undelivered:
                self._deliver(each)

    def say_what_is_left(self, partitions: CountedPartitions) -> None:
        """Say what the next start has to do."""
        if unpublished := sum(len(each.unpublished) for each in partitions.open.values()):
            _log.warning(f"{unpublished} counts are saved but not published: the next start publishes them")
        if undelivered := sum(len(each.undelivered) for each in partitions.open.values()):
            name = self._config.topics.rejected.name
            _log.warning(f"late records that are not in {name!r} yet: {undelivered}; the next start reads them again")

    def close(self) -> None:
        """Let go of the publisher and of what it has in flight."""
        if self._publisher is not None:
            self._publisher.close()
        self._publisher = None

    def _deliver(self, each: CountedPartition) -> None:
        if self._sent(partial(_reject, each.undelivered)):
            each.mark_delivered()
        else:
            self.close()  # what it still holds is sent again

    def _arrives(self, partition: int, due: Due) -> bool:
        return self._sent(lambda publisher: publisher.publish(partition, due, ANSWER_SECONDS))

    def _sent(self, send: Callable[[Publisher], bool]) -> bool:
        """Whether what `send` sends has arrived."""
        if self.missing_topics():
            return False  # it would hold the loop up, and what was counted of a topic that is gone is void
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


def _reject(letters: Sequence[DeadLetter], publisher: Publisher) -> bool:
    return publisher.reject(letters, ANSWER_SECONDS)
