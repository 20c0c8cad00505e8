"""The bucketer's output: records of `bucketed`, and dead letters."""

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from unique_users.bucketer.rekey import Rekeyed
from unique_users.clients.protocols import Batch, Producer, Topics
from unique_users.config.schema import Config
from unique_users.errors import BrokerAwayError, DeliveryError, TopicError
from unique_users.messages.dead_letters import DeadLetter
from unique_users.messages.partitioning import NEW_TOPIC, Layout, partitions_of_keys
from unique_users.runtime.waits import Wait

_log = logging.getLogger(__name__)

ACKNOWLEDGE_SECONDS = 1.0


def layout_of_bucketed(config: Config, topics: Topics) -> Layout:
    """How records are spread over `bucketed` now. Raises BrokerAwayError."""
    topic = topics.current(config.topics.bucketed.name)
    return Layout(topic.id, config.bucketer.partition_by, topic.partitions)


class Writer:
    """Writes with a producer that is replaced after every failure: what was in flight then may not have arrived.

    `began` is the layout of `bucketed` that all records are made for. Methods that write raise DeliveryError.
    """

    def __init__(
        self,
        config: Config,
        topics: Topics,
        began: Layout,
        new_producer: Callable[[], Producer | None],
        reason_for_silence: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._config = config
        self._topics = topics
        self._began = began
        self._new_producer = new_producer
        self._producer: Producer | None = None
        self._written_to = self._recreated()  # the value of `_recreated` when the producer was made
        self._gone = False  # whether a topic was gone at the last look
        self._wait = Wait(_log, "waiting for the broker to acknowledge", time.monotonic)
        self._reason_for_silence = reason_for_silence

    def open(self) -> None:
        """Connect a producer; waits for the broker."""
        self._written_to = self._recreated()
        self._producer = self._new_producer()

    @property
    def is_open(self) -> bool:
        """Whether there is a producer; there is none if a stop was requested while waiting for the broker."""
        return self._producer is not None

    def missing_topics(self) -> tuple[str, ...]:
        """The topics that are currently gone."""
        return self._topics.missing()

    def let_go_of(self, missing: Iterable[str]) -> bool:
        """Drop what is in flight: it would end up in the next topic of that name. Returns False if it was dropped."""
        if self._gone:
            return False
        self._gone = True
        _log.warning(f"{', '.join(f'no topic {name!r}' for name in missing)}; reading again from the last commit")
        self.close()
        return True

    def backpressure_eased(self) -> bool:
        """Backpressure: whether more records may be sent; waits a second at most."""
        if self._gone:
            self._gone = False
            self.open()
        self.check_topics()
        return self._producer is not None and self._keeps_up(self._producer.backpressure_eased)

    def send(self, batch: Batch, rekeyed: Rekeyed) -> None:
        """Send the records made from a batch of frames."""
        assert self._producer is not None
        topics = self._config.topics
        partitions = rekeyed.partitions
        if partitions is None:
            # The client would choose among the partitions there are now, before this process knows that there are more.
            partitions = partitions_of_keys(rekeyed.keys, self._began.partitions)
        self._producer.send_all(topics.bucketed.name, rekeyed.values, rekeyed.keys, partitions)
        for rejected in rekeyed.rejected:
            place = rejected.place
            number, value = rejected.element or (None, batch.values[place] or b"")
            source = (topics.feed.name, batch.partition, batch.offsets[place])
            record = (batch.keys[place], batch.timestamps_ms[place], batch.headers(place))
            letter = DeadLetter(rejected.reason, rejected.detail, *source, value, *record, number)
            self._producer.send(topics.rejected.name, value, letter.key, letter.headers())

    def flush(self) -> bool:
        """Whether everything sent is acknowledged; waits a second at most."""
        return self._producer is not None and self._keeps_up(self._producer.flush)

    def acknowledged(self) -> None:
        """Say that a wait is over."""
        self._wait.end("the broker acknowledges again, going on")

    def close(self) -> None:
        """Close the producer and drop what it has in flight."""
        if self._producer is not None:
            self._producer.close()

    def check_topics(self) -> None:
        """Raise DeliveryError once if `bucketed` or `rejected` has been recreated since the producer was made."""
        if self._recreated() != self._written_to:
            raise DeliveryError("an output topic was deleted and recreated")

    def checked_layout(self, former: Layout | None = None) -> Layout:
        """The layout of `bucketed` now. Raises TopicError if records cannot be added to those of a former layout.

        Checked before a commit, so that frames whose records a changed topic may have misplaced do not count as read.
        Raises BrokerAwayError.
        """
        former = former or self._began
        now = layout_of_bucketed(self._config, self._topics)
        if now.partitions == self._began.partitions and now.fits(former):
            return now
        raise TopicError(
            f"topic {self._config.topics.bucketed.name!r} was written {former.describe()}, now it is to be"
            f" {now.describe()}: a minute or user would be in two of them. {NEW_TOPIC}"
        )

    def _recreated(self) -> int:
        topics = self._config.topics
        return self._topics.recreated(topics.bucketed.name, topics.rejected.name)

    def _keeps_up(self, ready: Callable[[float], bool]) -> bool:
        keeps_up = ready(ACKNOWLEDGE_SECONDS)
        if not keeps_up:
            self._wait.goes_on(self._reason_for_silence)
            with suppress(BrokerAwayError):
                self.checked_layout()  # otherwise records for a partition that is gone would be waited for forever
        return keeps_up
