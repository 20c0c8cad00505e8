"""The consumer of kafka-python."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from threading import Lock

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from unique_users.clients.kafka_python.errors import explained
from unique_users.clients.kafka_python.internals.closing import LetsGo
from unique_users.clients.kafka_python.internals.column_reading import columns, read_columns, runs
from unique_users.clients.kafka_python.internals.record_format import Columns, decode_headers
from unique_users.clients.kafka_python.positions import position_of, to_commit
from unique_users.clients.kafka_python.settings import CONSUMER, READER, settings_of
from unique_users.clients.protocols import REQUEST_SECONDS, Batch, Headers, Polled, Position, Seen, no_headers
from unique_users.config.schema import Config
from unique_users.errors import BrokerAwayError, BrokerError

CLOSE_SECONDS = 3.0
GATHER_BYTES = 1024 * 1024  # the most that a broker gathers: the records of a few polls
GATHER_SECONDS = 0.25  # the longest that records wait: the cost is in the number of polls and fetches


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes what a rebalance did; called on the client's I/O thread, read by poll."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._assigned: set[int] = set()
        self._revoked: set[int] = set()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        with self._lock:
            self._assigned |= {partition.partition for partition in assigned}

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        with self._lock:
            gone = {partition.partition for partition in revoked}
            self._assigned -= gone
            self._revoked |= gone

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self.on_partitions_revoked(lost)

    def changes(self) -> tuple[frozenset[int], frozenset[int]]:
        with self._lock:
            assigned, revoked = frozenset(self._assigned), frozenset(self._revoked)
            self._assigned, self._revoked = set(), set()
        return assigned, revoked


class _Consumer(LetsGo, KafkaConsumer):  # type: ignore[misc]
    pass


class KafkaPythonConsumer:
    """See protocols.Consumer."""

    def __init__(
        self, config: Config, topic: str, group: str | None, *, fewer_fetches: bool = False, alone: bool = False
    ) -> None:
        self._config = config
        self._topic = topic
        self._alone = alone
        self._listener = _Listener()
        self._started: set[int] = set()
        own = {**CONSUMER, **(READER if alone else {}), "group_id": group}
        if fewer_fetches:
            own |= {"fetch_min_bytes": GATHER_BYTES, "fetch_max_wait_ms": round(GATHER_SECONDS * 1000)}
        settings = settings_of(config, own, KafkaConsumer.DEFAULT_CONFIG)
        settings["enable_auto_commit"] = False
        settings.setdefault("partition_assignment_strategy", [CooperativeStickyAssignor()])
        if alone:
            settings |= {"group_id": group, "group_instance_id": None}
        with explained(config):
            self._consumer = _Consumer(**settings)
            read_columns(self._consumer._fetcher, settings["max_poll_records"])  # noqa: SLF001
            if alone:
                self._assign_all()
            else:
                self._consumer.subscribe([topic], listener=self._listener)

    def _assign_all(self) -> None:
        try:
            found = self._consumer.partitions_for_topic(self._topic)
        except BaseException:
            self.close()  # nobody else can
            raise
        if not found:
            self.close()
            raise BrokerAwayError(f"topic {self._topic!r} does not exist")
        every = [self._partition(partition) for partition in found]
        self._consumer.assign(every)
        self._listener.on_partitions_assigned(every)

    def poll(self, timeout_seconds: float) -> Polled:
        try:
            with explained(self._config):
                polled = self._consumer.poll(timeout_ms=max(0, timeout_seconds) * 1000, max_records=1)
        except BrokerAwayError:
            polled = {}
        assigned, revoked = self._listener.changes()
        self._started -= revoked
        batches = [
            _batch(partition.partition, run)
            for partition, records in polled.items()
            if partition.partition in self._started and records
            for run in runs([columns(record) for record in records])
        ]
        return Polled(batches, assigned, revoked)

    def seek(self, partition: int, offset: int) -> None:
        with explained(self._config):
            try:
                self._consumer.seek(self._partition(partition), offset)
            except (AssertionError, ValueError, kafka_errors.IllegalStateError):
                return  # lost meanwhile: the next poll says so
        self._started.add(partition)

    def position(self, partition: int) -> int:
        with explained(self._config):
            try:
                offset = self._consumer.position(self._partition(partition), timeout_ms=REQUEST_SECONDS * 1000)
            except kafka_errors.IllegalStateError:
                offset = None  # lost meanwhile
        if offset is None:
            raise BrokerAwayError(f"no answer about the position in {self._topic}-{partition}")
        return int(offset)

    def seen(self, partitions: Iterable[int]) -> dict[int, Seen]:
        found = {}
        for partition in self._started.intersection(partitions):
            place = self._partition(partition)
            with suppress(kafka_errors.IllegalStateError, BrokerAwayError), explained(self._config):  # lost meanwhile
                position, end = self._consumer.position(place, timeout_ms=0), self._consumer.highwater(place)
                if position is not None and end is not None:
                    found[partition] = Seen(position, end)
        return found

    def committed(self, partitions: Iterable[int]) -> dict[int, Position]:
        asked = [self._partition(partition) for partition in partitions]
        with explained(self._config):
            # The consumer's own `committed` takes a single partition.
            answers = self._consumer._coordinator.fetch_committed_offsets(asked, timeout_ms=REQUEST_SECONDS * 1000)  # noqa: SLF001
        return {tp.partition: at for tp, answer in answers.items() if (at := position_of(answer)) is not None}

    def commit(self, positions: Mapping[int, Position], timeout_seconds: float = REQUEST_SECONDS) -> bool:
        offsets = {self._partition(partition): to_commit(position) for partition, position in positions.items()}
        try:
            with explained(self._config):
                self._consumer.commit(offsets, timeout_ms=timeout_seconds * 1000)
        except BrokerAwayError:
            raise
        except BrokerError as error:
            if isinstance(error.__context__, _REBALANCING):
                return False
            raise
        return True

    def watermark_offsets(
        self, partitions: Iterable[int], timeout_seconds: float = REQUEST_SECONDS
    ) -> dict[int, tuple[int, int]]:
        asked = [self._partition(partition) for partition in partitions]
        if not asked:
            return {}
        with explained(self._config):
            first = self._consumer.beginning_offsets(asked, timeout_ms=timeout_seconds * 1000)
        ends = self.high_watermark_offsets([partition.partition for partition in asked], timeout_seconds)
        return {p.partition: (first[p], ends[p.partition]) for p in asked}

    def high_watermark_offsets(
        self, partitions: Iterable[int], timeout_seconds: float = REQUEST_SECONDS
    ) -> dict[int, int]:
        asked = [self._partition(partition) for partition in partitions]
        if not asked:
            return {}
        with explained(self._config):
            ends = self._consumer.end_offsets(asked, timeout_ms=timeout_seconds * 1000)
        return {partition.partition: end for partition, end in ends.items()}

    def offsets_at(self, partitions: Iterable[int], at_ms: int) -> dict[int, int]:
        ends = self.high_watermark_offsets(partitions)  # asked first: what arrives in between has a later time
        asked = {self._partition(partition): at_ms for partition in ends}
        if not asked:
            return {}
        with explained(self._config):
            found = self._consumer.offsets_for_times(asked, timeout_ms=REQUEST_SECONDS * 1000)
            if not self._alone:  # a compacted topic may have lost every record of a partition
                self._check_times([tp for tp, at in found.items() if at is None], ends)
        return {tp.partition: ends[tp.partition] if at is None else at.offset for tp, at in found.items()}

    def _check_times(self, partitions: list[TopicPartition], ends: Mapping[int, int]) -> None:
        """Raise BrokerError for records without a time: the client would take all of these for earlier ones."""
        if not partitions:
            return
        first = self._consumer.beginning_offsets(partitions, timeout_ms=REQUEST_SECONDS * 1000)
        any_time = self._consumer.offsets_for_times(dict.fromkeys(partitions, 0), timeout_ms=REQUEST_SECONDS * 1000)
        if any(any_time[tp] is None and first[tp] < ends[tp.partition] for tp in partitions):
            raise BrokerError(f"the records of {self._topic} have no times, so none can be found by its time")

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=CLOSE_SECONDS * 1000)

    def _partition(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)


def _batch(partition: int, run: Columns) -> Batch:
    headers = partial(_headers, run.headers) if run.headers else no_headers
    return Batch(partition, *run[:-1], headers)


def _headers(encoded: Mapping[int, bytes], place: int) -> Headers:
    return decode_headers(encoded[place]) if place in encoded else []


_REBALANCING = (
    kafka_errors.CommitFailedError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
    kafka_errors.RebalanceInProgressError,
)
