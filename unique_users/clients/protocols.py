"""What the rest of the program asks of a Kafka client.

Records move as *batches of columns*, so that the hot loops pay for no object per record.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from unique_users.config.schema import Topic

Headers = list[tuple[str, bytes]]

FENCED = "another process has joined with the kafka.group_instance_id of this one: give each instance its own"
REQUEST_SECONDS = 10.0  # what a loop waits for one answer
REQUEST_BYTES_MAX = 16 * 1024 * 1024  # the largest record that a producer takes, before compression


class Batch(NamedTuple):
    """Records of one partition in offset order, as columns of equal length."""

    partition: int
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    timestamps_ms: Sequence[int]  # -1 where a record has none
    offsets: Sequence[int]
    unreadable: str = ""  # why these records cannot be unpacked; their keys and values are None then
    leader_epoch: int = -1  # of the leader that took the last one, -1 where unknown

    @property
    def next_offset(self) -> int:
        """The position after this batch: what to commit, and where to read on."""
        return self.offsets[-1] + 1


class Position(NamedTuple):
    """A committed position: the next offset to read, and the text stored with it."""

    offset: int
    metadata: str = ""


class Peeked(NamedTuple):
    """One record as it lies on the broker."""

    offset: int
    leader_epoch: int  # of the leader that took it, -1 where unknown
    key: bytes | None
    value: bytes | None
    timestamp_ms: int  # -1 where it has none


class Polled(NamedTuple):
    """What one poll brought.

    `revoked` partitions belong to another member now, or are about to come back as `assigned`: forget what is known of
    them. `assigned` partitions deliver nothing until `Consumer.seek` says from where. Handle the `revoked` ones first.
    """

    batches: list[Batch]
    assigned: frozenset[int] = frozenset()
    revoked: frozenset[int] = frozenset()


class Consumer(Protocol):
    """Reads one topic as a member of a group. Nothing is committed unless `commit` is called.

    Every method may raise BrokerAwayError when the broker does not answer in time, except poll, which returns empty
    then; and BrokerError when the broker refuses.
    """

    def poll(self, timeout_seconds: float) -> Polled:
        """Return what has arrived, waiting for `timeout_seconds` at most."""

    def seek(self, partition: int, offset: int) -> None:
        """Read `partition` from `offset` on; for a partition that was assigned, and to go back in one that is read."""

    def position(self, partition: int) -> int:
        """The next offset that will be read. Raises BrokerAwayError for a partition that is revoked by now."""

    def committed(self, partitions: Iterable[int]) -> dict[int, Position]:
        """The group's committed positions, in one request; a partition without a commit is absent."""

    def commit(self, positions: Mapping[int, Position], timeout_seconds: float = REQUEST_SECONDS) -> bool:
        """Commit; return False when the group is being rebalanced and the commit was refused: not an error."""

    def bounds(self, partitions: Iterable[int], timeout_seconds: float = REQUEST_SECONDS) -> dict[int, tuple[int, int]]:
        """The first offset kept and the end offset of each partition."""

    def ends(self, partitions: Iterable[int], timeout_seconds: float = REQUEST_SECONDS) -> dict[int, int]:
        """The end offset, that of the next record to come, of each partition: one question in place of two."""

    def close(self) -> None:
        """Leave the group. Commits nothing."""


class Producer(Protocol):
    """Sends records and knows whether all of them were acknowledged by all in-sync replicas."""

    def partitions(self, topic: str) -> int:
        """The number of partitions of `topic`. Raises BrokerAwayError."""

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
    ) -> None:
        """Hand one record over, without waiting for it to arrive: ask `has_room` before, every few thousand records.

        Without `partition`, the key chooses it as Kafka's own clients do. Raises DeliveryError when the record cannot
        be sent, TooLargeError for one of more than REQUEST_BYTES_MAX; the producer is of no use afterwards.
        """

    def send_all(
        self,
        topic: str,
        values: Sequence[bytes],
        keys: Sequence[bytes | None] | None = None,
        partitions: Sequence[int] | None = None,
    ) -> None:
        """As `send`, for many records at a fraction of its cost. `partitions` are those of each record.

        Without these, records without keys may go to any partition.
        """

    def has_room(self, timeout_seconds: float) -> bool:
        """Wait until the records in flight take less than their bound; return False when time is up.

        Raises DeliveryError when one of them was not acknowledged, TooLargeError when its topic takes none so large.
        """

    def flush(self, timeout_seconds: float) -> bool:
        """Return True when every record sent is acknowledged, False when time is up. Raises as `has_room` does."""

    def close(self) -> None:
        """Let go of the connections, without waiting for records in flight: call flush before."""


class TopicState(NamedTuple):
    """What a topic is like on the broker. A topic that is deleted and recreated has another id."""

    id: str  # empty on brokers before 2.8, which have no topic ids
    partitions: int


class Admin(Protocol):
    """Creates and describes topics. Every method may raise BrokerAwayError or BrokerError."""

    def describe(self, name: str) -> TopicState | None:
        """The topic's state, None when it does not exist."""

    def settings(self, name: str) -> Mapping[str, str]:
        """The settings of an existing topic, the broker's defaults included."""

    def create(self, topic: Topic) -> None:
        """Create the topic and wait until it can be used; one that exists by now is no error. Raises TopicError."""

    def delete(self, names: Sequence[str]) -> None:
        """Delete topics; those that do not exist are no error."""

    def lag(self, group: str, topic: str) -> int:
        """Records of `topic` that `group` has not committed yet."""

    def committed(self, group: str, topic: str) -> dict[int, Position]:
        """What `group` has committed of `topic`, in one request; a partition without a commit is absent.

        Empty for a group, and for a topic, that does not exist.
        """

    def ends(self, topic: str) -> dict[int, int]:
        """The end offset of each partition. Raises BrokerAwayError also when the topic does not exist."""

    def newest_ms(self, topic: str) -> dict[int, int]:
        """The time of the newest record of each partition, in milliseconds; an empty partition is absent.

        Empty where the broker cannot tell (before 3.0). Raises BrokerAwayError also when the topic does not exist.
        """

    def close(self) -> None:
        """Let go of the connections."""


class Topics(Protocol):
    """What is known of the topics that a loop uses; asks nothing, and never waits. See topic_watch.TopicWatch."""

    def current(self, name: str) -> TopicState:
        """A topic's state. Raises BrokerAwayError when there was none to see for a few seconds."""

    def missing(self) -> tuple[str, ...]:
        """The topics that the broker did not have at the last looks."""

    def recreated(self, *names: str) -> int:
        """How often one of these topics became another one since this process began."""


class Peek(Protocol):
    """Reads single records of one topic, without a consumer group. For one thread at a time, which may be any."""

    def record_at(self, partition: int, offset: int, timeout_seconds: float) -> Peeked | None:
        """The record at exactly this offset as the broker has it now, None when there is none.

        That is: before the first record kept or beyond the last, compacted away, or a mark of a transaction. Records
        of transactions that were aborted, or are not finished, are records here. Raises BrokerAwayError when the
        broker does not answer in time or does not have the partition, and BrokerError.
        """

    def close(self) -> None:
        """Let go of the connections."""
