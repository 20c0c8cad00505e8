"""The consumer of librdkafka.

Longer than other modules: rebalance callbacks, polls and the search for the end of an unreadable batch change the same
positions, and each has to see what the others did.
"""
# ruff: noqa: SLF001  # librdkafka's names of errors that no broker sent begin with an underscore

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from threading import Thread
from time import monotonic

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from unique_users.clients.connect import damaged
from unique_users.clients.librdkafka.batches import ERROR, PARTITION, batch_of
from unique_users.clients.librdkafka.errors import OUTDATED, REBALANCING, Refusal, code_of, explained, explained_error
from unique_users.clients.librdkafka.positions import position_of
from unique_users.clients.librdkafka.settings import CONSUMER, OF_GROUPS, READER, SLICE_SECONDS, built, settings_of
from unique_users.clients.librdkafka.unreadable_batches import ANSWER_SECONDS, WHY, Search, cannot_unpack
from unique_users.clients.protocols import REQUEST_SECONDS, Batch, Polled, Position, Seen
from unique_users.config.schema import Config
from unique_users.errors import BrokerAwayError

CLOSE_SECONDS = 3.0
POLL_RECORDS_MAX = 1_000  # 2 MB of frames, which stay in the processor's cache from the fetch to the parser
POLL_BYTES_MAX = 16 * 1024 * 1024  # of records that are all as large as the first
FILL_SECONDS = 0.02  # how long a poll waits for more records after its first: fewer, larger batches cost less
AHEAD_BYTES_MAX = 32 * 1024 * 1024  # of records that arrive while waiting for a commit
RECORD_OVERHEAD_BYTES = 256  # roughly what a record here costs besides its bytes
ANSWER_SLICE_SECONDS = 0.01  # the longest that the answer to a commit waits
OUTDATED_SECONDS = 5.0  # a change of leaders is faster; a longer wait means there is none


class LibrdkafkaConsumer:
    """See protocols.Consumer.

    A partition from the group is assigned to librdkafka only when it is started, so that nothing is fetched for it
    before. Records may arrive while a commit waits for its answer: they are kept for the next poll. Nothing is gathered
    at the broker, because polls and fetches cost little here.
    """

    def __init__(
        self,
        config: Config,
        topic: str,
        group: str | None,
        *,
        fewer_fetches: bool = False,  # noqa: ARG002
        alone: bool = False,
    ) -> None:
        self._config = config
        self._group = group
        self._alone = alone
        self._topic = topic
        self._owned: set[int] = set()
        self._assigned: set[int] = set()
        self._revoked: set[int] = set()
        self._positions: dict[int, int] = {}  # of the partitions started
        self._searches: dict[int, Search] = {}  # in partitions whose next batch cannot be unpacked
        self._ahead: list[Message] = []
        self._answer: tuple[KafkaError | None, Sequence[TopicPartition]] = (None, [])  # to the last commit answered
        self._refusal = Refusal(config)
        self._outdated_since: float | None = None  # since when this client's view of the partitions is outdated
        settings = settings_of(config, {**CONSUMER, **(READER if alone else {}), "group.id": group or ""})
        settings |= {"enable.auto.commit": False, "enable.auto.offset.store": False}
        settings |= {"error_cb": self._refusal, "on_commit": self._on_commit}
        if settings.get("group.protocol") == "consumer":
            del settings["partition.assignment.strategy"]  # then the broker decides
        self._incremental = "cooperative" in settings.get("partition.assignment.strategy", "cooperative")
        if alone:
            # The client requires a group; without commits, nothing is requested or stored in its name.
            settings = {name: value for name, value in settings.items() if name not in OF_GROUPS}
            settings["group.id"] = group or "reader"
            self._incremental = False
        self._settings = settings
        self._consumer = self._subscribed()

    def _subscribed(self) -> confluent_kafka.Consumer:
        consumer = built(self._config, confluent_kafka.Consumer, self._settings)
        self._refusal.connect(consumer)
        if self._alone:
            try:
                self._assigned = self._every_partition(consumer)
            except BaseException:
                Thread(target=consumer.close, daemon=True).start()  # nobody else can
                raise
            self._owned = set(self._assigned)
            return consumer
        consumer.subscribe([self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)
        return consumer

    def _every_partition(self, consumer: confluent_kafka.Consumer) -> set[int]:
        with explained(self._config):
            described = consumer.list_topics(self._topic, timeout=REQUEST_SECONDS).topics[self._topic]
            if described.error is not None:
                raise KafkaException(described.error)
        return set(described.partitions)

    def poll(self, timeout_seconds: float) -> Polled:
        deadline = monotonic() + timeout_seconds
        messages, self._ahead = self._ahead, []
        with explained(self._config):
            while not messages:
                # Asked for many, librdkafka would wait until it has them all: ask for one, then for what is there.
                messages = self._consumer.consume(1, max(0.0, min(SLICE_SECONDS, deadline - monotonic())))
                if self._assigned or self._revoked or monotonic() >= deadline:
                    break
            if messages:
                more = min(POLL_RECORDS_MAX - 1, POLL_BYTES_MAX // (len(messages[0]) + 1))
                if more:
                    messages += self._consumer.consume(more, FILL_SECONDS)
        self._refusal.check()
        failed: dict[int, int] = {}
        passed: list[Batch] = []
        if any(map(ERROR, messages)):
            messages, failed = self._without_errors(messages)
        if self._searches:
            messages, passed = self._searched(messages, failed)
        batches = [*passed, *self._batches(messages)]
        for partition, base in failed.items():
            self._search(partition, base)
        assigned, revoked = frozenset(self._assigned), frozenset(self._revoked)
        self._assigned, self._revoked = set(), set()
        return Polled(batches, assigned, revoked)

    def seek(self, partition: int, offset: int) -> None:
        if partition not in self._owned:
            return  # lost meanwhile: the next poll says so, or has said so
        self._searches.pop(partition, None)
        again = partition in self._positions
        self._positions[partition] = offset
        self._ahead = [message for message in self._ahead if message.partition() != partition]
        with explained(self._config):
            if not self._incremental:
                self._consumer.assign([self._partition(p, at) for p, at in self._positions.items()])
            elif not again:
                self._consumer.incremental_assign([self._partition(partition, offset)])
            else:
                self._seek(self._partition(partition, offset))

    def _seek(self, partition: TopicPartition) -> None:
        try:
            self._consumer.seek(partition)
        except KafkaException as error:
            if error.args[0].code() not in {KafkaError._STATE, KafkaError._PREV_IN_PROGRESS}:
                raise
            # Reading it has not begun yet.
            self._consumer.incremental_unassign([partition])
            self._consumer.incremental_assign([partition])

    def position(self, partition: int) -> int:
        if partition not in self._owned:
            raise BrokerAwayError(f"{self._topic}-{partition} belongs to another member")
        if partition not in self._positions:
            committed = self.committed([partition]).get(partition)
            return committed.offset if committed else self.watermark_offsets([partition])[partition][0]
        if self._ahead or partition in self._searches:
            return self._positions[partition]
        # librdkafka's own position also goes past the markers that transactions leave after their records.
        (at,) = self._consumer.position([self._partition(partition)])
        return max(int(at.offset), self._positions[partition])

    def seen(self, partitions: Iterable[int]) -> dict[int, Seen]:
        found = {}
        for partition in self._positions.keys() & partitions:
            with suppress(BrokerAwayError), explained(self._config):  # lost meanwhile
                _, end = self._consumer.get_watermark_offsets(self._partition(partition), cached=True)
                if end >= 0:
                    found[partition] = Seen(self.position(partition), end)
        return found

    def committed(self, partitions: Iterable[int]) -> dict[int, Position]:
        asked = [self._partition(partition) for partition in partitions]
        if not asked:
            return {}
        with explained(self._config):
            answers = self._consumer.committed(asked, timeout=REQUEST_SECONDS)
        for answer in answers:
            self._raise_if(answer)
        return {answer.partition: at for answer in answers if (at := position_of(answer)) is not None}

    def commit(self, positions: Mapping[int, Position], timeout_seconds: float = REQUEST_SECONDS) -> bool:
        if not positions.keys() <= self._owned:
            return False
        offsets = [
            TopicPartition(self._topic, p, at.offset, *([at.metadata] if at.metadata else []))
            for p, at in positions.items()
        ]
        self._answer = (None, [])
        try:
            # Its blocking form has no timeout, and would block a poll in any other thread as well.
            self._consumer.commit(offsets=offsets, asynchronous=True)
            if not self._answered({p: at.offset for p, at in positions.items()}, timeout_seconds):
                message = f"no answer to a commit of {self._topic}"
                raise BrokerAwayError(message)
            error, answers = self._answer
        except KafkaException as refused:
            error, answers = refused.args[0], []
        errors = [error for error in (error, *(answer.error for answer in answers)) if error]
        if any(error.code() in REBALANCING for error in errors):
            return False
        if errors:
            raise explained_error(self._config, errors[0])
        return True

    def _answered(self, asked: Mapping[int, int], timeout_seconds: float) -> bool:
        """Wait for the answer to a commit of these offsets. Returns whether it arrived."""
        deadline = monotonic() + timeout_seconds
        bytes_ahead = 0
        paused: list[TopicPartition] = []
        while not (answered := self._answer_is_for(asked)) and monotonic() < deadline:
            messages = self._consumer.consume(1, ANSWER_SLICE_SECONDS)
            self._ahead += messages
            bytes_ahead += sum(len(message) + RECORD_OVERHEAD_BYTES for message in messages)
            if bytes_ahead > AHEAD_BYTES_MAX and not paused:
                # This discards what was fetched, which is fetched again.
                paused = [self._partition(partition) for partition in self._positions]
                self._consumer.pause(paused)
        if paused:
            self._consumer.resume([partition for partition in paused if partition.partition in self._positions])
        return answered

    def _answer_is_for(self, asked: Mapping[int, int]) -> bool:
        # The answer to an earlier commit may arrive late; if it was for the same offsets, it is as good.
        error, answers = self._answer
        return {answer.partition: answer.offset for answer in answers} == asked or bool(error and not answers)

    def _on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        self._answer = (error, partitions)

    def watermark_offsets(
        self, partitions: Iterable[int], timeout_seconds: float = REQUEST_SECONDS
    ) -> dict[int, tuple[int, int]]:
        asked = list(partitions)
        if not asked:
            return {}
        deadline = monotonic() + timeout_seconds
        first = self._offsets(asked, _FIRST, deadline)
        end = self._offsets(asked, _END, deadline)
        return {partition: (first[partition], end[partition]) for partition in asked}

    def high_watermark_offsets(
        self, partitions: Iterable[int], timeout_seconds: float = REQUEST_SECONDS
    ) -> dict[int, int]:
        asked = list(partitions)
        return self._offsets(asked, _END, monotonic() + timeout_seconds) if asked else {}

    def offsets_at(self, partitions: Iterable[int], at_ms: int) -> dict[int, int]:
        ends = self.high_watermark_offsets(partitions)  # asked first: what arrives in between has a later time
        found = self._offsets(ends, at_ms, monotonic() + REQUEST_SECONDS) if ends else {}
        return {partition: ends[partition] if offset < 0 else offset for partition, offset in found.items()}

    def _offsets(self, partitions: Iterable[int], which: int, deadline: float) -> dict[int, int]:
        asked = [self._partition(partition, which) for partition in partitions]
        try:
            with explained(self._config):
                answers = self._consumer.offsets_for_times(asked, timeout=max(0.0, deadline - monotonic()))
                for answer in answers:
                    if answer.error is not None:
                        raise KafkaException(answer.error)
        except BrokerAwayError as error:
            if code_of(error) in OUTDATED:
                self._join_again_in_time()
            raise
        self._outdated_since = None
        return {answer.partition: answer.offset for answer in answers}

    def _join_again_in_time(self) -> None:
        now = monotonic()
        if self._outdated_since is None:
            self._outdated_since = now
        elif now - self._outdated_since > OUTDATED_SECONDS:
            self._join_again()
            self._outdated_since = None

    def _join_again(self) -> None:
        """Continue as another client and member; the next poll says that all partitions are lost."""
        former = self._consumer
        self._revoked |= self._owned
        self._owned, self._assigned, self._positions, self._ahead = set(), set(), {}, []
        self._consumer = self._subscribed()
        Thread(target=former.close, daemon=True).start()

    def close(self) -> None:
        # It waits for the broker as long as that takes: in a thread that is left behind if it takes too long.
        closing = Thread(target=self._consumer.close, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _on_assign(self, consumer: confluent_kafka.Consumer, partitions: Sequence[TopicPartition]) -> None:
        if consumer is not self._consumer:
            return
        assigned = {partition.partition for partition in partitions}
        self._owned |= assigned
        self._assigned |= assigned
        # The group waits for an assignment, even an empty one.
        (consumer.incremental_assign if self._incremental else consumer.assign)([])

    def _on_revoke(self, consumer: confluent_kafka.Consumer, partitions: Sequence[TopicPartition]) -> None:
        if consumer is not self._consumer:
            return
        lost = {partition.partition for partition in partitions}
        self._owned -= lost
        self._assigned -= lost
        self._revoked |= lost
        for partition in lost:
            self._searches.pop(partition, None)
        started = [self._partition(number) for number in lost if self._positions.pop(number, None) is not None]
        if self._incremental:
            consumer.incremental_unassign(started)
        else:
            consumer.unassign()

    def _without_errors(self, messages: Iterable[Message]) -> tuple[list[Message], dict[int, int]]:
        """The messages that are records, and the first offsets of batches that cannot be unpacked, by partition.

        What a partition delivered after such a batch is left out. Raises TopicError for a damaged batch, and
        BrokerError for any other error that does not pass by itself.
        """
        records: list[Message] = []
        failed: dict[int, int] = {}
        for message in messages:
            error, partition = message.error(), message.partition()
            if partition in failed:
                continue
            if error is None:
                records.append(message)
            elif cannot_unpack(error):
                failed[partition] = message.offset()
            elif error.code() == KafkaError._BAD_MSG:
                raise damaged(self._topic, partition, message.offset())
            elif error.code() != KafkaError._MAX_POLL_EXCEEDED and not self._is_of_no_group(error):
                explained = explained_error(self._config, error)
                if not isinstance(explained, BrokerAwayError):
                    raise explained
        return records, failed

    def _is_of_no_group(self, error: KafkaError) -> bool:
        """Whether the error is about the group that even a reader without one has to name."""
        return self._group is None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED

    def _search(self, partition: int, base: int) -> None:
        """Look for the end of a batch that cannot be unpacked."""
        if partition not in self._positions:
            return
        search = self._searches.get(partition)
        if search is None:
            inside = max(base, self._positions[partition])
            search = Search(base, inside, max(inside + 1, self._end(partition)), monotonic() + ANSWER_SECONDS)
            self._searches[partition] = search
        else:
            search.error(base)
        self._read_from(partition, search)

    def _end(self, partition: int) -> int:
        try:
            return self.high_watermark_offsets([partition])[partition]
        except BrokerAwayError:
            return 0  # one offset of the batch is skipped, and the next one is checked again

    def _read_from(self, partition: int, search: Search) -> None:
        search.deadline = monotonic() + ANSWER_SECONDS
        with suppress(BrokerAwayError), explained(self._config):
            self._seek(self._partition(partition, search.outside if search.probe is None else search.probe))

    def _searched(self, messages: list[Message], failed: dict[int, int]) -> tuple[list[Message], list[Batch]]:
        """Take records of partitions under search as answers to it, and skip what is found."""
        passed: list[Batch] = []
        for partition, search in list(self._searches.items()):
            came = any(message.partition() == partition for message in messages)
            silent = partition not in failed and monotonic() > search.deadline
            if search.probe is not None and (came or silent):
                search.readable()
                if search.probe is not None:
                    # They come again if the end is found before them.
                    messages = [message for message in messages if message.partition() != partition]
                    failed.pop(partition, None)
                    self._read_from(partition, search)
            if search.probe is None:
                passed.append(self._passed(partition, search))
        return messages, passed

    def _passed(self, partition: int, search: Search) -> Batch:
        del self._searches[partition]
        offsets = range(self._positions[partition], search.outside)
        self._positions[partition] = search.outside
        nothing = [None] * len(offsets)
        return Batch(partition, nothing, nothing, [-1] * len(offsets), offsets, WHY)

    def _batches(self, messages: list[Message]) -> list[Batch]:
        """Messages as batch_of, except those of partitions that were lost or not started."""
        if not messages:
            return []
        numbers = list(map(PARTITION, messages))
        if numbers.count(numbers[0]) == len(numbers):
            by_partition = {numbers[0]: messages}
        else:
            by_partition = defaultdict(list)
            for number, message in zip(numbers, messages, strict=True):
                by_partition[number].append(message)
        batches = [batch_of(p, records) for p, records in by_partition.items() if p in self._positions]
        for batch in batches:
            self._positions[batch.partition] = batch.next_offset
        return batches

    def _partition(self, partition: int, offset: int = confluent_kafka.OFFSET_INVALID) -> TopicPartition:
        return TopicPartition(self._topic, partition, offset)

    def _raise_if(self, answer: TopicPartition) -> None:
        if answer.error is not None:
            raise explained_error(self._config, answer.error)


_FIRST, _END = -2, -1  # special times in a request for offsets by time
