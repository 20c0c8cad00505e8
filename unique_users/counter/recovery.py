"""Where the counting of a partition continues: with which state, and from which record of its topic."""

import logging
from collections.abc import Collection

from msgspec.structs import replace

from unique_users.aggregation.bucket_users import Origin
from unique_users.aggregation.completeness import UNTIL_KNOWN, Gap, Why
from unique_users.clients.protocols import Consumer, Topics, TopicState
from unique_users.config.checks import wrong_layout
from unique_users.config.schema import Config
from unique_users.counter.backfill import follow
from unique_users.counter.drop_guard import refuse_drops
from unique_users.counter.partition import CountedPartition
from unique_users.counter.publish_keep import PublishKeep
from unique_users.errors import OtherTopicError, StateError
from unique_users.event_time.buckets import Calendar, iso_time
from unique_users.event_time.rollup import Rollup
from unique_users.messages.checkpoints import Found
from unique_users.messages.generations import new_generation
from unique_users.partition_log.cut_back import HistoryCheck
from unique_users.partition_log.deleted_records import ANSWER_SECONDS, OTHER, RECREATED, say_lost
from unique_users.runtime.heartbeat import busy
from unique_users.state.metadata import Facts
from unique_users.state.store import Store, Stores

_log = logging.getLogger(__name__)

OPENING_SECONDS = 3.0  # for one answer about all partitions that a rebalance brought, perhaps a thousand


class Recovery:
    """Opens partitions with their states, each at the record it has to count next."""

    def __init__(
        self,
        config: Config,
        consumer: Consumer,
        topics: Topics,
        stores: Stores,
        history: HistoryCheck,
        drop: Collection[str] = (),
    ) -> None:
        self._config = config
        self._consumer = consumer
        self._topics = topics
        self._stores = stores
        settings = config.counter
        self._rollup = Rollup(Calendar(settings.timezone), settings.intervals, settings.estimates)
        self._drop = drop
        self.history = history
        self._looked = False
        self._former: set[str] = set()  # generations of the states found
        self._outdated: set[int] = set()

    def begin_anew(self, partition: int) -> None:
        """Have the next opening set the saved state aside: its topic is gone, and no id would show that."""
        self._outdated.add(partition)

    def watermark_offsets(self, partitions: Collection[int]) -> dict[int, tuple[int, int]]:
        """The low and high watermark offsets of those partitions that the topic has, in one request for all of them.

        Raises BrokerAwayError.
        """
        if not partitions:
            return {}
        there = self._topics.current(self._config.topics.bucketed.name).partitions
        return self._consumer.watermark_offsets(
            [partition for partition in partitions if partition < there], OPENING_SECONDS
        )

    def recover(self, partition: int, low_high: tuple[int, int]) -> CountedPartition:
        """1. look at what is there, 2. find or begin the state, 3. check that it was counted from this very topic.

        Raises LockedError while another process owns the state, StateError if it cannot be trusted, UsageError if users
        would be dropped without permission, BrokerAwayError.
        """
        name = self._config.topics.bucketed.name
        topic = self._topics.current(self._config.topics.bucketed.name)
        origin = Origin(name, topic.id, partition, topic.partitions)
        self._look(partition, topic)
        if partition in self._outdated:
            _log.info(f"{name}-{partition}: the old state is kept as {self._stores.set_aside(origin)}")
            self._outdated.discard(partition)
        with busy():  # filling an interval from a large state takes minutes
            counted = self._with_state(origin)
        saved = counted.saved_offset
        (first, end), found = self._looked_at(counted, low_high)
        if saved is None:
            counted.position = first
            if first > 0:
                counted.mark(Gap("", 0, UNTIL_KNOWN, why) for why in self._lost(counted, first))
        elif found and found.back_to is None:
            counted.close()
            aside = self._stores.set_aside(origin)
            _log.info(
                f"{name}-{partition}: was counted up to offset {saved}, but {RECREATED if saved > end else OTHER}:"
                f" counting it from its start; the old state is kept as {aside}"
            )
            return self.recover(partition, low_high)
        elif found:
            self.history.say(partition, found, saved, counted.go_back(found))
        elif saved < first:
            counted.position = first
            say_lost(name, partition, saved, first)
            counted.mark([Gap("", counted.floor, UNTIL_KNOWN, Why.RECORDS_DELETED)])
        counted.publish_from = end
        return counted

    def _lost(self, counted: CountedPartition, first: int) -> list[Why]:
        """What a topic without a state may lack if it begins at `first`: perhaps records that nobody ever read.

        Closes it on an error.
        """
        partition = counted.origin.partition
        try:
            read = self._consumer.committed([partition]).get(partition)
        except BaseException:
            counted.close()
            raise
        unread = read is None or read.offset < first
        return [Why.STATE_LOST, Why.RECORDS_DELETED] if unread else [Why.STATE_LOST]

    def _looked_at(self, counted: CountedPartition, low_high: tuple[int, int]) -> tuple[tuple[int, int], Found | None]:
        """The low and high watermark offsets, and how the log differs from what was counted. Closes it on an error."""
        partition, saved = counted.origin.partition, counted.saved_offset
        if saved is None:
            return low_high, None
        try:
            if saved > low_high[1]:  # a former owner may have counted on since these were asked for
                low_high = self._consumer.watermark_offsets([partition], ANSWER_SECONDS)[partition]
            return low_high, self.history.opened(partition, counted.past, saved, low_high)
        except BaseException:
            counted.close()
            raise

    def _look(self, partition: int, topic: TopicState) -> None:
        """Before anything is changed: the first time look at the states of all partitions, later at this one's."""
        states = self._stores.look(self._config.topics.bucketed.name, partition if self._looked else None)
        self._former |= {state.facts.generation for state in states}
        kept = [
            state
            for state in states
            if (state.origin.topic_id, state.origin.partitions) == topic
            and state.origin.partition not in self._outdated
        ]
        refuse_drops(kept, self._rollup, self._config.counter.retention_seconds, self._drop)
        self._looked = True

    def _with_state(self, origin: Origin) -> CountedPartition:
        settings = self._config.counter
        if reason := wrong_layout(self._config, origin.partitions):
            raise StateError(reason)
        try:
            store = self._stores.open(origin)
        except OtherTopicError as error:
            aside = self._stores.set_aside(origin)
            _log.info(f"{error}; counting the new one from its start; the old state is kept as {aside}")
            store = self._stores.open(origin)
        if filled := follow(store, self._rollup):
            since = f"; buckets that began before {iso_time(store.floor)} may be too low" if store.floor else ""
            _log.info(f"{origin.topic}-{origin.partition}: filled from the saved state: {', '.join(filled)}{since}")
        uids_max = settings.uids_in_memory_max // origin.partitions
        # A low watermark is already behind its clock by the allowed lateness, and the retention is at least as long.
        retention, allowed = settings.retention_seconds, self._config.bucketer.allowed_lateness_seconds
        keep = max(0, retention - allowed) if retention else None
        publish_keep = PublishKeep(settings.publish_keep_days, allowed, self._rollup.calendar, keep or 0)
        counted = CountedPartition(store, origin, self._rollup, keep, uids_max, publish_keep)
        counted.facts = self._facts(store, origin)
        return counted

    def _facts(self, store: Store, origin: Origin) -> Facts:
        facts = replace(store.facts, retention_seconds=self._config.counter.retention_seconds)
        if store.next_offset is not None:
            return facts
        generation = new_generation(self._stores.wall_clock(), origin.topic_id, self._former)
        return replace(facts, generation=generation, unsettled=bool(origin.topic_id), counts_kept_before=0)
