"""Where the counting of a partition goes on: with which state, and from which record of its topic."""

from collections.abc import Callable

from unique_users.buckets import iso_time
from unique_users.cascade import Cascade
from unique_users.clients import Consumer, TopicState
from unique_users.config import Config
from unique_users.config_checks import wrong_layout
from unique_users.errors import OtherTopicError, StateError
from unique_users.ledger import Ledger, Stores
from unique_users.lifecycle import busy, say
from unique_users.positions import ANSWER_SECONDS, RECREATED, say_lost
from unique_users.refill import follow
from unique_users.tally import Origin


class Opening:
    """Gives the ledgers of partitions, each at the record that it has to count next."""

    def __init__(
        self,
        config: Config,
        consumer: Consumer,
        describe: Callable[[], TopicState],
        stores: Stores,
        cascade: Cascade,
    ) -> None:
        self._config = config
        self._consumer = consumer
        self._describe = describe
        self._stores = stores
        self._cascade = cascade
        self._outdated: set[int] = set()

    def begin_anew(self, partition: int) -> None:
        """Have the next opening set the saved state aside: it is of a topic that is gone, which no id would tell."""
        self._outdated.add(partition)

    def ledger(self, partition: int) -> Ledger:
        """1. find or begin the state, 2. find out where the topic can be read.

        Raises LockedError while the state has another owner, StateError for one that cannot be trusted,
        BrokerAwayError.
        """
        name = self._config.topics.bucketed.name
        topic = self._describe()
        first, end = self._consumer.bounds([partition], ANSWER_SECONDS)[partition]
        origin = Origin(name, topic.id, partition, topic.partitions)
        if partition in self._outdated:
            say(f"{name}-{partition}: the old state is {self._stores.set_aside(origin)}")
            self._outdated.discard(partition)
        with busy():  # an interval that is filled from a large state takes minutes
            ledger = self._with_state(origin)
        if (saved := ledger.saved_offset) is None:
            ledger.position = first
            ledger.trimmed = first > 0
        elif saved > end:
            ledger.close()
            aside = self._stores.set_aside(origin)
            say(
                f"{name}-{partition}: was counted up to offset {saved}, but {RECREATED}: counting it from its start,"
                f" the old state is {aside}"
            )
            return self.ledger(partition)
        elif saved < first:
            ledger.position = first
            say_lost(name, partition, saved, first)
        ledger.publish_from = end
        return ledger

    def _with_state(self, origin: Origin) -> Ledger:
        settings = self._config.counter
        if reason := wrong_layout(self._config, origin.partitions):
            raise StateError(reason)
        try:
            store = self._stores.open(origin)
        except OtherTopicError as error:
            aside = self._stores.set_aside(origin)
            say(f"{error}; counting the new one from its start, the old state is {aside}")
            store = self._stores.open(origin)
        if filled := follow(store, self._cascade):
            say(
                f"{origin.topic}-{origin.partition}: filled from what is saved: {', '.join(filled)}; buckets that began"
                f" before {iso_time(store.floor)} may be too low"
            )
        uids_max = settings.uids_in_memory_max // origin.partitions
        return Ledger(store, origin, self._cascade, settings.retention_seconds, uids_max)
