"""Where the counting of a partition goes on: with which state, and from which record of its topic."""

import logging
from collections.abc import Callable, Collection

from msgspec.structs import replace

from unique_users.aggregation.bucket_users import Origin
from unique_users.aggregation.marks import UNTIL_KNOWN, Gap, Why
from unique_users.clients.protocols import Consumer, TopicState
from unique_users.config.checks import wrong_layout
from unique_users.config.schema import Config
from unique_users.counter.backfill import follow
from unique_users.counter.drops import refuse_drops
from unique_users.counter.partition import Ledger, Store, Stores
from unique_users.errors import OtherTopicError, StateError
from unique_users.event_time.buckets import iso_time
from unique_users.event_time.rollup import Cascade
from unique_users.log_history.check import HistoryCheck
from unique_users.log_history.lost_records import ANSWER_SECONDS, OTHER, RECREATED, say_lost
from unique_users.messages.checkpoints import Found
from unique_users.messages.generations import new_generation
from unique_users.runtime.pulse import busy
from unique_users.state.facts import Facts

_log = logging.getLogger(__name__)

OPENING_SECONDS = 3.0  # for an answer about all partitions that a rebalance brought, which may be a thousand


class Opening:
    """Gives the ledgers of partitions, each at the record that it has to count next."""

    def __init__(
        self,
        config: Config,
        consumer: Consumer,
        describe: Callable[[], TopicState],
        stores: Stores,
        cascade: Cascade,
        history: HistoryCheck,
        wall_clock: Callable[[], float],
        drop: Collection[str] = (),
    ) -> None:
        self._config = config
        self._consumer = consumer
        self._describe = describe
        self._stores = stores
        self._cascade = cascade
        self._history = history
        self._wall_clock = wall_clock
        self._drop = drop
        self._looked = False
        self._former: set[str] = set()  # generations of the states that were there
        self._outdated: set[int] = set()

    def begin_anew(self, partition: int) -> None:
        """Have the next opening set the saved state aside: it is of a topic that is gone, which no id would tell."""
        self._outdated.add(partition)

    def bounds(self, partitions: Collection[int]) -> dict[int, tuple[int, int]]:
        """Where the topic can be read, of those of its partitions that it has: one question for all of them.

        Raises BrokerAwayError.
        """
        if not partitions:
            return {}
        there = self._describe().partitions
        return self._consumer.bounds([partition for partition in partitions if partition < there], OPENING_SECONDS)

    def ledger(self, partition: int, bounds: tuple[int, int]) -> Ledger:
        """1. look at what is there, 2. find or begin the state, 3. see whether it was counted from this very topic.

        Raises LockedError while the state has another owner, StateError for one that cannot be trusted, UsageError
        where users would be dropped that nobody said to drop, BrokerAwayError.
        """
        name = self._config.topics.bucketed.name
        topic = self._describe()
        origin = Origin(name, topic.id, partition, topic.partitions)
        self._look(partition, topic)
        if partition in self._outdated:
            _log.info(f"{name}-{partition}: the old state is {self._stores.set_aside(origin)}")
            self._outdated.discard(partition)
        with busy():  # an interval that is filled from a large state takes minutes
            ledger = self._with_state(origin)
        saved = ledger.saved_offset
        (first, end), found = self._looked_at(ledger, bounds)
        if saved is None:
            ledger.position = first
            if first > 0:
                ledger.mark(Gap("", 0, UNTIL_KNOWN, why) for why in self._lost(ledger, first))
        elif found and found.back_to is None:
            ledger.close()
            aside = self._stores.set_aside(origin)
            _log.info(
                f"{name}-{partition}: was counted up to offset {saved}, but {RECREATED if saved > end else OTHER}:"
                f" counting it from its start, the old state is {aside}"
            )
            return self.ledger(partition, bounds)
        elif found:
            self._history.say(partition, found, saved, ledger.go_back(found))
        elif saved < first:
            ledger.position = first
            say_lost(name, partition, saved, first)
            ledger.mark([Gap("", ledger.floor, UNTIL_KNOWN, Why.RECORDS_DELETED)])
        ledger.publish_from = end
        return ledger

    def _lost(self, ledger: Ledger, first: int) -> list[Why]:
        """What is missing of a topic that begins at `first` and has no state: maybe records that nobody ever read.

        Closes the ledger on an error.
        """
        partition = ledger.origin.partition
        try:
            read = self._consumer.committed([partition]).get(partition)
        except BaseException:
            ledger.close()
            raise
        unread = read is None or read.offset < first
        return [Why.STATE_LOST, Why.RECORDS_DELETED] if unread else [Why.STATE_LOST]

    def _looked_at(self, ledger: Ledger, bounds: tuple[int, int]) -> tuple[tuple[int, int], Found | None]:
        """The partition's bounds, and how it differs from what was counted of it. Closes the ledger on an error."""
        partition, saved = ledger.origin.partition, ledger.saved_offset
        if saved is None:
            return bounds, None
        try:
            if saved > bounds[1]:  # a former owner may have counted on since these were asked for
                bounds = self._consumer.bounds([partition], ANSWER_SECONDS)[partition]
            return bounds, self._history.opened(partition, ledger.past, saved, bounds)
        except BaseException:
            ledger.close()
            raise

    def _look(self, partition: int, topic: TopicState) -> None:
        """Before anything is changed: the first time at the states of all partitions, later at this one's."""
        states = self._stores.look(self._config.topics.bucketed.name, partition if self._looked else None)
        self._former |= {state.facts.generation for state in states}
        kept = [
            state
            for state in states
            if (state.origin.topic_id, state.origin.partitions) == topic
            and state.origin.partition not in self._outdated
        ]
        refuse_drops(kept, self._cascade, self._config.counter.retention_seconds, self._drop)
        self._looked = True

    def _with_state(self, origin: Origin) -> Ledger:
        settings = self._config.counter
        if reason := wrong_layout(self._config, origin.partitions):
            raise StateError(reason)
        try:
            store = self._stores.open(origin)
        except OtherTopicError as error:
            aside = self._stores.set_aside(origin)
            _log.info(f"{error}; counting the new one from its start, the old state is {aside}")
            store = self._stores.open(origin)
        if filled := follow(store, self._cascade):
            since = f"; buckets that began before {iso_time(store.floor)} may be too low" if store.floor else ""
            _log.info(f"{origin.topic}-{origin.partition}: filled from what is saved: {', '.join(filled)}{since}")
        uids_max = settings.uids_in_memory_max // origin.partitions
        # A low watermark is the allowed lateness behind its clock already, and the retention is at least as long.
        retention, allowed = settings.retention_seconds, self._config.bucketer.retention_seconds
        ledger = Ledger(store, origin, self._cascade, max(0, retention - allowed) if retention else None, uids_max)
        ledger.facts = self._facts(store, origin)
        return ledger

    def _facts(self, store: Store, origin: Origin) -> Facts:
        facts = replace(store.facts, retention_seconds=self._config.counter.retention_seconds)
        if store.next_offset is not None:
            return facts
        return replace(facts, generation=new_generation(self._wall_clock(), origin.topic_id, self._former))
