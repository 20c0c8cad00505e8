"""An in-memory Kafka for tests of the loops. tests/contract holds it to what a real broker does.

Records are delivered when their producer is flushed, not before, so that a test sees what a crash would leave.
Whatever waits lets the FakeClock go on by as much instead. It is one long module, because broker and clients are one
machine: each client reads and moves the broker's logs, groups and clock, and the broker moves its consumers.
"""

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count, groupby
from typing import NamedTuple

import zstandard

from unique_users.clients.protocols import (
    REQUEST_BYTES_MAX,
    REQUEST_SECONDS,
    Batch,
    Copies,
    GroupDetails,
    Headers,
    Polled,
    Position,
    Seen,
    StoredRecord,
    TopicDetails,
    TopicState,
)
from unique_users.clients.refused_topics import creation_refused
from unique_users.config.schema import Topic
from unique_users.errors import BrokerAwayError, DeliveryError, TooLargeError
from unique_users.runtime.signals import Stop

BOOTSTRAP_SECONDS = 2.0
ALL = frozenset({"READ", "WRITE", "CREATE", "DELETE", "ALTER", "DESCRIBE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"})
IN_FLIGHT_BYTES_MAX = 32 * 1024 * 1024
DEFAULT_SETTINGS = {"cleanup.policy": "delete", "max.message.bytes": "1048588", "retention.ms": "604800000"}


class FakeClock:
    """Both clocks of a process; they move only when told."""

    def __init__(self, wall: float = 1_468_244_400.0) -> None:
        self._wall_at_start = wall
        self._elapsed = 0.0

    def monotonic(self) -> float:
        return self._elapsed

    def wall(self) -> float:
        return self._wall_at_start + self._elapsed

    def advance(self, seconds: float) -> None:
        self._elapsed += seconds


class FakeStop(Stop):
    """A Stop whose waits take no time."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock.monotonic)
        self._clock = clock

    def wait(self, seconds: float) -> bool:
        self._clock.advance(seconds)
        return self.requested


class Record(NamedTuple):
    """One record as it lies in a partition."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    leader_epoch: int = 0
    unreadable: str = ""
    marker: bool = False  # of a transaction: no poll brings it

    @property
    def named(self) -> dict[str, bytes]:
        """Its headers by their names; of two with one name, the last."""
        return {name: value or b"" for name, value in self.headers}


@dataclass
class FakePartition:
    """A log: what is left of it, and where it starts. `leader_epoch` is that of the records to come.

    From `open_from` on, its records are those of an open transaction.
    """

    first: int = 0
    leader_epoch: int = 0
    open_from: int | None = None
    records: list[Record] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.first + len(self.records)

    @property
    def stable_end(self) -> int:
        return self.end if self.open_from is None else self.open_from


@dataclass
class FakeTopic:
    """A topic and its partitions."""

    settings: dict[str, str]
    partitions: list[FakePartition]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass
class FakeGroup:
    """The consumers of one topic in one group, in the order in which they came, and what they committed."""

    members: list["FakeConsumer"] = field(default_factory=list)
    committed: dict[int, Position] = field(default_factory=dict)


class FakeKafka:
    """One broker. `away`: it does not answer. `refuse_after`: so many records are taken, the next one fails."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.topics: dict[str, FakeTopic] = {}
        self.groups: dict[tuple[str, str], FakeGroup] = {}
        self.away = False
        self.refuse_after: int | None = None
        self._breaks = 0
        self._was_away = False
        self._answered_at = 0.0
        self.looks_take_long = False
        self.records_per_poll = 5_000

    def create(self, name: str, partitions: int = 1, settings: Mapping[str, str] | None = None) -> None:
        logs = [FakePartition() for _ in range(partitions)]
        self.topics[name] = FakeTopic({**DEFAULT_SETTINGS, **(settings or {})}, logs)

    def append(
        self,
        topic: str,
        *values: bytes | None,
        key: bytes | None = None,
        partition: int = 0,
        timestamp_ms: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Put records at the end of a partition; their time is the clock's unless given."""
        log = self.topics[topic].partitions[partition]
        at = int(self.clock.wall() * 1000) if timestamp_ms is None else timestamp_ms
        for value in values:
            log.records.append(Record(log.end, at, key, value, headers or [], log.leader_epoch))

    def end_transaction(self, topic: str, partition: int = 0) -> None:
        """Put the marker that ends a transaction at the end of a partition."""
        log = self.topics[topic].partitions[partition]
        log.records.append(
            Record(log.end, int(self.clock.wall() * 1000), None, None, [], log.leader_epoch, marker=True)
        )
        log.open_from = None

    def append_unreadable(self, topic: str, count: int, why: str, partition: int = 0) -> None:
        """Put a batch at the end of a partition that cannot be unpacked."""
        log = self.topics[topic].partitions[partition]
        at = int(self.clock.wall() * 1000)
        for _ in range(count):
            log.records.append(Record(log.end, at, None, None, [], log.leader_epoch, why))

    def records(self, topic: str, partition: int = 0) -> list[Record]:
        return self.topics[topic].partitions[partition].records

    def values(self, topic: str) -> list[bytes | None]:
        """The values of all partitions, one partition after the other."""
        return [record.value for log in self.topics[topic].partitions for record in log.records]

    def keys(self, topic: str) -> list[bytes | None]:
        """The keys beside `values`."""
        return [record.key for log in self.topics[topic].partitions for record in log.records]

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Delete the records before an offset, as a topic's retention does."""
        log = self.topics[topic].partitions[partition]
        log.records = [record for record in log.records if record.offset >= before]
        log.first = before

    def cut_back(self, topic: str, end: int, partition: int = 0, *, noticed: bool = True) -> None:
        """Lose the records from an offset on, as a broker that was restored; or as another leader, not `noticed`."""
        log = self.topics[topic].partitions[partition]
        log.records = [record for record in log.records if record.offset < end]
        log.leader_epoch += 1
        self._breaks += noticed

    def break_off(self) -> None:
        """Have been away for a moment."""
        self._breaks += 1
        self.looks_take_long = False

    def answers(self) -> tuple[float, int]:
        """As TopicWatch does."""
        if self.looks_take_long:
            return self._answered_at, self._breaks
        if self.away:
            self._was_away = True
            return self._answered_at, self._breaks + 1
        self._breaks += self._was_away
        self._was_away = False
        self._answered_at = self.clock.monotonic()
        return self._answered_at, self._breaks

    def delete(self, topic: str) -> None:
        """Delete a topic, and with it what groups have committed of it."""
        self.topics.pop(topic, None)
        for (_, of), group in self.groups.items():
            if of == topic:
                group.committed.clear()

    def group(self, name: str, topic: str) -> FakeGroup:
        return self.groups.setdefault((name, topic), FakeGroup())

    def assign(self, wanted: Mapping["FakeConsumer", Iterable[int]]) -> None:
        """Rebalance on command: each of these members has these partitions now."""
        for member, partitions in wanted.items():
            member._assign(set(partitions))

    def evict(self, consumer: "FakeConsumer") -> None:
        """Take a member for dead; it comes back at its next poll."""
        group = self.group(consumer.group_name, consumer.topic)
        group.members.remove(consumer)
        consumer._assign(set())
        self.balance(group, consumer.topic)

    def balance(self, group: FakeGroup, topic: str) -> None:
        """Share the partitions out, moving as few as possible."""
        if not group.members:
            return
        free = set(range(len(self.topics[topic].partitions)))
        most = -(-len(free) // len(group.members))
        shares: dict[FakeConsumer, set[int]] = {}
        for member in group.members:
            shares[member] = set(sorted(member.owned & free)[:most])
            free -= shares[member]
        for partition in sorted(free):
            min(shares.values(), key=len).add(partition)
        self.assign(shares)

    def existing(self, topic: str) -> FakeTopic:
        """The topic as a broker that answers has it. Raises BrokerAwayError."""
        self.require()
        if topic not in self.topics:
            raise BrokerAwayError(f"no topic {topic!r}")
        return self.topics[topic]

    def require(self, timeout_seconds: float = REQUEST_SECONDS) -> None:
        """Raise BrokerAwayError after the time a client would wait, if the broker is away."""
        if self.away:
            self.clock.advance(timeout_seconds)
            raise BrokerAwayError("no answer from the fake broker")


class FakeConsumer:
    """See protocols.Consumer."""

    def __init__(self, kafka: FakeKafka, topic: str, group: str | None, *, alone: bool = False) -> None:
        kafka.require(BOOTSTRAP_SECONDS)
        self._kafka = kafka
        self.topic = topic
        self.group_name = group or ""
        self._alone = alone
        self.owned: set[int] = set()
        self._assigned: set[int] = set()
        self._revoked: set[int] = set()
        self._positions: dict[int, int] = {}  # of the partitions started
        self.asked = Counter[str]()  # the broker, by what
        self.closed = False
        if alone:
            self._assign(set(range(len(kafka.existing(topic).partitions))))

    def poll(self, timeout_seconds: float) -> Polled:
        if self._kafka.away:
            self._kafka.clock.advance(timeout_seconds)
            return Polled([])
        if self not in self._group.members and not self._alone:
            self._group.members.append(self)
            self._kafka.balance(self._group, self.topic)
        assigned, revoked = frozenset(self._assigned), frozenset(self._revoked)
        self._assigned, self._revoked = set(), set()
        started = sorted(self._positions) if self.topic in self._kafka.topics else []
        polled = Polled([batch for p in started for batch in self._read(p)], assigned, revoked)
        if polled == Polled([]):
            self._kafka.clock.advance(timeout_seconds)
        return polled

    def seek(self, partition: int, offset: int) -> None:
        if partition in self.owned:
            self._positions[partition] = offset

    def position(self, partition: int) -> int:
        if partition not in self.owned:
            raise BrokerAwayError(f"partition {partition} belongs to another member")
        committed = self._group.committed.get(partition)
        unstarted = committed.offset if committed else self._log(partition).first
        return self._positions.get(partition, unstarted)

    def committed(self, partitions: Iterable[int]) -> dict[int, Position]:
        if not (of := list(partitions)):
            return {}
        self._kafka.require()
        self.asked["committed"] += 1
        return {p: self._group.committed[p] for p in of if p in self._group.committed}

    def seen(self, partitions: Iterable[int]) -> dict[int, Seen]:
        if self.topic not in self._kafka.topics:
            return {}
        return {p: Seen(self._positions[p], self._log(p).end) for p in partitions if p in self._positions}

    def commit(self, positions: Mapping[int, Position], timeout_seconds: float = REQUEST_SECONDS) -> bool:
        self._kafka.require(timeout_seconds)
        if (self not in self._group.members and not self._alone) or self._revoked:
            return False
        self._group.committed.update(positions)
        return True

    def watermark_offsets(
        self, partitions: Iterable[int], timeout_seconds: float = REQUEST_SECONDS
    ) -> dict[int, tuple[int, int]]:
        return {
            p: (self._log(p).first, end)
            for p, end in self.high_watermark_offsets(partitions, timeout_seconds, "watermark_offsets").items()
        }

    def high_watermark_offsets(
        self, partitions: Iterable[int], timeout_seconds: float = REQUEST_SECONDS, what: str = "high_watermark_offsets"
    ) -> dict[int, int]:
        if not (of := list(partitions)):
            return {}
        self._kafka.require(timeout_seconds)
        self.asked[what] += 1
        return {p: self._log(p).stable_end for p in of}

    def offsets_at(self, partitions: Iterable[int], at_ms: int) -> dict[int, int]:
        ends = self.high_watermark_offsets(partitions)
        later = {p: [record.offset for record in self._log(p).records if record.timestamp_ms >= at_ms] for p in ends}
        return {p: later[p][0] if later[p] else end for p, end in ends.items()}

    def close(self) -> None:
        self.closed = True
        if self in self._group.members:
            self._group.members.remove(self)
            self._kafka.balance(self._group, self.topic)

    @property
    def _group(self) -> FakeGroup:
        return self._kafka.group(self.group_name, self.topic)

    def _log(self, partition: int) -> FakePartition:
        # What a client knows without asking it also knows of a broker that is away.
        if self.topic not in self._kafka.topics:
            raise BrokerAwayError(f"no topic {self.topic!r}")
        return self._kafka.topics[self.topic].partitions[partition]

    def _assign(self, partitions: set[int]) -> None:
        gone = self.owned - partitions
        self._assigned = (self._assigned - gone) | (partitions - self.owned)
        self._revoked |= gone
        self.owned = partitions
        for partition in gone:
            self._positions.pop(partition, None)

    def _read(self, partition: int) -> list[Batch]:
        log = self._log(partition)
        if not log.first <= self._positions[partition] <= log.end:
            self._positions[partition] = log.first
        begin = self._positions[partition] - log.first
        there = log.records[begin : min(begin + self._kafka.records_per_poll, log.stable_end - log.first)]
        self._positions[partition] += len(there)
        records = [record for record in there if not record.marker]
        runs = (list(run) for _, run in groupby(records, key=lambda record: record.unreadable))
        return [
            Batch(
                partition,
                [record.key for record in run],
                [record.value for record in run],
                [record.timestamp_ms for record in run],
                [record.offset for record in run],
                run[0].unreadable,
                run[-1].leader_epoch,
                partial(_headers, run),
            )
            for run in runs
        ]


def _headers(run: Sequence[Record], place: int) -> Headers:
    return run[place].headers


class FakeProducer:
    """See protocols.Producer."""

    def __init__(self, kafka: FakeKafka, compression: str = "none") -> None:
        kafka.require(BOOTSTRAP_SECONDS)
        self._kafka = kafka
        self._size = len if compression == "none" else lambda value: len(zstandard.compress(value))
        self._in_flight: list[tuple[str, int, bytes | None, bytes | None, Headers, int | None]] = []
        self._failed = False
        self._turns = count()
        self.closed = False

    def partitions(self, topic: str) -> int:
        self._kafka.require()
        if topic not in self._kafka.topics:
            raise BrokerAwayError(f"no topic {topic!r}")
        return len(self._kafka.topics[topic].partitions)

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> None:
        assert not self.closed, "sent with a closed producer"
        if self._failed or topic not in self._kafka.topics:
            self._fail(f"a record of {len(value or b'')} bytes for {topic!r}")
        if len(value or b"") > REQUEST_BYTES_MAX:
            self._fail(f"a record of {len(value or b'')} bytes for {topic!r}", TooLargeError)
        if partition is None:
            partitions = len(self._kafka.topics[topic].partitions)
            partition = (next(self._turns) if key is None else murmur2(key) & 0x7FFFFFFF) % partitions
        self._in_flight.append((topic, partition, value, key, headers or [], timestamp_ms))

    def send_all(
        self,
        topic: str,
        values: Sequence[bytes],
        keys: Sequence[bytes | None] | None = None,
        partitions: Sequence[int] | None = None,
    ) -> None:
        chosen: Sequence[int | None] = [None if keys else next(self._turns) % self.partitions(topic)] * len(values)
        for value, key, to in zip(values, keys or [None] * len(values), partitions or chosen, strict=True):
            self.send(topic, value, key, partition=to)

    def backpressure_eased(self, timeout_seconds: float) -> bool:
        if sum(len(value or b"") for _, _, value, *_ in self._in_flight) <= IN_FLIGHT_BYTES_MAX:
            return True
        return self._deliver(len(self._in_flight) // 2, timeout_seconds)

    def flush(self, timeout_seconds: float) -> bool:
        return self._deliver(len(self._in_flight), timeout_seconds)

    def close(self) -> None:
        self.closed = True

    def _deliver(self, records: int, timeout_seconds: float) -> bool:
        if self._failed:
            self._fail("an earlier record")
        if records and self._kafka.away:
            self._kafka.clock.advance(timeout_seconds)
            return False
        for _ in range(records):
            topic, partition, value, key, headers, timestamp_ms = self._in_flight.pop(0)
            refuse_after = self._kafka.refuse_after
            if refuse_after is not None:
                self._kafka.refuse_after = refuse_after - 1 if refuse_after else None
            if refuse_after == 0:
                self._fail(f"a record of {len(value or b'')} bytes for {topic!r}")
            if self._size(value or b"") > int(self._kafka.topics[topic].settings["max.message.bytes"]):
                self._fail(f"a record of {len(value or b'')} bytes for {topic!r}", TooLargeError)
            self._kafka.append(topic, value, key=key, partition=partition, timestamp_ms=timestamp_ms, headers=headers)
        return True

    def _fail(self, what: str, kind: type[DeliveryError] = DeliveryError) -> None:
        self._failed = True
        raise kind(f"records were not acknowledged: {what}")


class FakeTopics:
    """See clients.protocols.Topics: as TopicWatch, without waiting for a broker that is away."""

    def __init__(self, kafka: FakeKafka, *names: str) -> None:
        self._kafka = kafka
        self._names = names
        self.recreations = 0  # of topics that are written

    def current(self, name: str) -> TopicState:
        self._kafka.require(timeout_seconds=0)
        if (topic := self._kafka.topics.get(name)) is None:
            raise BrokerAwayError(f"no topic {name!r}")
        return TopicState(topic.id, len(topic.partitions))

    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in self._names if name not in self._kafka.topics)

    def recreated(self, *_names: str) -> int:
        return self.recreations

    def answers(self) -> tuple[float, int]:
        return self._kafka.answers()


class FakeAdmin:
    """See protocols.Admin."""

    def __init__(self, kafka: FakeKafka) -> None:
        kafka.require(BOOTSTRAP_SECONDS)
        self._kafka = kafka
        self.closed = False

    def brokers(self) -> list[str]:
        self._kafka.require()
        return ["fake:1"]

    def describe(self, name: str) -> TopicState | None:
        self._kafka.require()
        topic = self._kafka.topics.get(name)
        return None if topic is None else TopicState(topic.id, len(topic.partitions))

    def settings(self, name: str) -> Mapping[str, str]:
        self._kafka.require()
        if name not in self._kafka.topics:
            raise BrokerAwayError(f"no topic {name!r}")
        return self._kafka.topics[name].settings

    def details(self, name: str) -> TopicDetails | None:
        self._kafka.require()
        topic = self._kafka.topics.get(name)
        return None if topic is None else TopicDetails({p: Copies(1, 1) for p in range(len(topic.partitions))}, ALL)

    def group_details(self, group: str) -> GroupDetails:
        self._kafka.require()
        found = [each for (name, _), each in self._kafka.groups.items() if name == group]
        return GroupDetails(sum(len(each.members) for each in found), ALL)

    def version(self) -> str:
        self._kafka.require()
        return "4.3"

    def create(self, topic: Topic) -> None:
        self._kafka.require()
        if topic.replication > 1:
            raise creation_refused(topic, 38, "")
        if topic.name not in self._kafka.topics:
            settings = {name: str(value) for name, value in topic.settings.items()}
            self._kafka.create(topic.name, topic.partitions, settings)

    def delete(self, names: Sequence[str]) -> None:
        self._kafka.require()
        for name in names:
            self._kafka.delete(name)

    def lag(self, group: str, topic: str) -> int:
        self._kafka.require()
        committed = self._kafka.group(group, topic).committed
        logs = self._kafka.topics[topic].partitions
        return sum(log.end - committed.get(p, Position(0)).offset for p, log in enumerate(logs))

    def committed(self, group: str, topic: str) -> dict[int, Position]:
        self._kafka.require()
        return dict(self._kafka.groups.get((group, topic), FakeGroup()).committed)

    def starts(self, topic: str) -> dict[int, int]:
        return {p: log.first for p, log in enumerate(self._kafka.existing(topic).partitions)}

    def high_watermark_offsets(self, topic: str) -> dict[int, int]:
        return {p: log.end for p, log in enumerate(self._kafka.existing(topic).partitions)}

    def stable_ends(self, topic: str) -> dict[int, int]:
        return {p: log.stable_end for p, log in enumerate(self._kafka.existing(topic).partitions)}

    def newest_ms(self, topic: str) -> dict[int, int]:
        logs = self._kafka.existing(topic).partitions
        return {p: max(record.timestamp_ms for record in log.records) for p, log in enumerate(logs) if log.records}

    def close(self) -> None:
        self.closed = True


class FakeRecordLookup:
    """See protocols.RecordLookup."""

    def __init__(self, kafka: FakeKafka, topic: str) -> None:
        kafka.require(BOOTSTRAP_SECONDS)
        self._kafka = kafka
        self._topic = topic
        self.closed = False

    def record_at(self, partition: int, offset: int, timeout_seconds: float) -> StoredRecord | None:
        self._kafka.require(timeout_seconds)
        for record in self._kafka.existing(self._topic).partitions[partition].records:
            if record.offset == offset:
                return StoredRecord(offset, record.leader_epoch, record.key, record.value, record.timestamp_ms)
        return None

    def close(self) -> None:
        self.closed = True


def murmur2(data: bytes) -> int:
    """Kafka's hash of a key, as an unsigned number of 32 bits."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(data)
    whole = len(data) - len(data) % 4
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
