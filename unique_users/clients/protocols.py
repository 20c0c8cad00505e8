"""What the rest of the program needs from a Kafka client.

Records move as *batches of columns*, so that the hot loops create no object per record.

Longer than other modules: it is the whole seam, so that a new client is written against one page.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from unique_users.config.schema import Topic

Headers = Sequence[tuple[str, bytes | None]]

FENCED = "another process has joined with the kafka.group_instance_id of this one: give each instance its own"
REQUEST_SECONDS = 10.0  # how long a loop waits for one answer
REQUEST_BYTES_MAX = 16 * 1024 * 1024  # the largest record that a producer accepts, before compression


def no_headers(_place: int) -> Headers:
    """The headers of a record that has none."""
    return []


def address(host: str, port: int) -> str:
    """`host:port` as in `kafka.bootstrap_servers`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Batch(NamedTuple):
    """Records of one partition in offset order, as columns of equal length."""

    partition: int
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    timestamps_ms: Sequence[int]  # -1 if a record has none
    offsets: Sequence[int]
    unreadable: str = ""  # why these records cannot be unpacked; their keys and values are then None
    leader_epoch: int = -1  # of the leader that took the last one, -1 if unknown
    headers: Callable[[int], Headers] = no_headers  # of the record at an index, decoded on demand

    @property
    def next_offset(self) -> int:
        """The position after this batch: what to commit, and where to read on."""
        return self.offsets[-1] + 1


class Position(NamedTuple):
    """A committed position: the next offset to read, and the metadata stored with it."""

    offset: int
    metadata: str = ""


class StoredRecord(NamedTuple):
    """One record as stored on the broker."""

    offset: int
    leader_epoch: int  # of the leader that took it, -1 if unknown
    key: bytes | None
    value: bytes | None
    timestamp_ms: int  # -1 if it has none


class Seen(NamedTuple):
    """How far a partition has been read, and where it ends, as known without asking the broker."""

    position: int  # the next offset to read: also past what transactions leave behind, which no poll returns
    end: int  # of all records, including those of open transactions, which no poll returns yet


class Polled(NamedTuple):
    """The result of one poll.

    `revoked` partitions now belong to another member, or are about to come back as `assigned`: forget what is known of
    them. `assigned` partitions deliver nothing until `Consumer.seek` says from where. Handle the `revoked` ones first.
    """

    batches: list[Batch]
    assigned: frozenset[int] = frozenset()
    revoked: frozenset[int] = frozenset()


class Consumer(Protocol):
    """Reads one topic as a member of a group. Nothing is committed unless `commit` is called.

    Every method may raise BrokerAwayError when the broker does not answer in time, except poll, which then returns an
    empty result; and BrokerError when the broker refuses.
    """

    def poll(self, timeout_seconds: float) -> Polled:
        """Return what has arrived, waiting for `timeout_seconds` at most."""

    def seek(self, partition: int, offset: int) -> None:
        """Read `partition` from `offset` on: to start an assigned partition, or to go back in one being read."""

    def position(self, partition: int) -> int:
        """The next offset to be read. Raises BrokerAwayError for a partition that has been revoked."""

    def seen(self, partitions: Iterable[int]) -> dict[int, Seen]:
        """How far started partitions have been read, as known now; those for which it is unknown are absent."""

    def committed(self, partitions: Iterable[int]) -> dict[int, Position]:
        """The group's committed positions, in one request; a partition without a commit is absent."""

    def commit(self, positions: Mapping[int, Position], timeout_seconds: float = REQUEST_SECONDS) -> bool:
        """Commit. Returns False if the commit was refused because the group is rebalancing: not an error."""

    def watermark_offsets(
        self, partitions: Iterable[int], timeout_seconds: float = REQUEST_SECONDS
    ) -> dict[int, tuple[int, int]]:
        """The first offset kept and the end offset, as `ends` returns it, of each partition."""

    def high_watermark_offsets(
        self, partitions: Iterable[int], timeout_seconds: float = REQUEST_SECONDS
    ) -> dict[int, int]:
        """The end offset of each partition, before the first open transaction: one request instead of two."""

    def offsets_at(self, partitions: Iterable[int], at_ms: int) -> dict[int, int]:
        """The offset of each partition's first record with this Kafka time or a later one, else the partition's end."""

    def close(self) -> None:
        """Leave the group. Commits nothing."""


class Producer(Protocol):
    """Sends records and knows whether all in-sync replicas acknowledged all of them."""

    def partitions(self, topic: str) -> int:
        """The number of partitions of `topic`. Raises BrokerAwayError."""

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> None:
        """Hand over one record without waiting for it to arrive.

        Call `backpressure_eased` first, every few thousand records.

        Without `partition`, the key chooses it as in Kafka's own clients. Without `timestamp_ms`, the record's time is
        now. A broker may refuse, or soon delete, records with another time. Raises DeliveryError if the record cannot
        be sent, TooLargeError if it exceeds REQUEST_BYTES_MAX; the producer is unusable afterwards.
        """

    def send_all(
        self,
        topic: str,
        values: Sequence[bytes],
        keys: Sequence[bytes | None] | None = None,
        partitions: Sequence[int] | None = None,
    ) -> None:
        """Like `send`, for many records at a fraction of its cost. `partitions` holds one for each record.

        Without it, records without keys may go to any partition.
        """

    def backpressure_eased(self, timeout_seconds: float) -> bool:
        """Wait until the records in flight are below their limit. Returns False when time is up.

        Raises DeliveryError if one of them was not acknowledged, TooLargeError if it is too large for its topic.
        """

    def flush(self, timeout_seconds: float) -> bool:
        """Return True when every record sent is acknowledged, False when time is up.

        Raises as `backpressure_eased` does.
        """

    def close(self) -> None:
        """Close the connections without waiting for records in flight: call flush first."""


class TopicState(NamedTuple):
    """A topic's state on the broker. A topic that is deleted and recreated has another id."""

    id: str  # empty on brokers before 2.8, which have no topic ids
    partitions: int


class Copies(NamedTuple):
    """How many brokers are to keep a partition, and how many have all of it now: 0 if it has no leader."""

    wanted: int
    in_sync: int


class TopicDetails(NamedTuple):
    """What a broker tells about a topic beyond its state. It tells rights since 2.3; None if it does not."""

    copies: Mapping[int, Copies]  # by partition
    rights: frozenset[str] | None  # what this user may do with it, as Kafka writes it in code: READ, DESCRIBE_CONFIGS …


class GroupDetails(NamedTuple):
    """What a broker tells about a consumer group; one that it does not know has no members."""

    members: int
    rights: frozenset[str] | None  # as in TopicDetails


class Admin(Protocol):
    """Creates and describes topics. Every method may raise BrokerAwayError or BrokerError."""

    def describe(self, name: str) -> TopicState | None:
        """The topic's state, or None if it does not exist."""

    def settings(self, name: str) -> Mapping[str, str]:
        """The settings of an existing topic, including the broker's defaults."""

    def details(self, name: str) -> TopicDetails | None:
        """Where the topic's copies are and what this user may do with it, or None if it does not exist."""

    def group_details(self, group: str) -> GroupDetails:
        """Who is in a consumer group, and what this user may do with it."""

    def version(self) -> str:
        """The release of Kafka that the broker's answers show, such as `4.3`; empty if the client cannot tell."""

    def create(self, topic: Topic) -> None:
        """Create the topic and wait until it can be used; one that already exists is no error. Raises TopicError."""

    def delete(self, names: Sequence[str]) -> None:
        """Delete topics; those that do not exist are no error."""

    def lag(self, group: str, topic: str) -> int:
        """Records of `topic` that `group` has not committed yet."""

    def committed(self, group: str, topic: str) -> dict[int, Position]:
        """The commits of `group` for `topic`, in one request; a partition without a commit is absent.

        Empty if the group or the topic does not exist.
        """

    def starts(self, topic: str) -> dict[int, int]:
        """The offset of the first record kept in each partition. Raises like `ends`."""

    def high_watermark_offsets(self, topic: str) -> dict[int, int]:
        """The high watermark offset of each partition. Raises BrokerAwayError, also if the topic does not exist."""

    def stable_ends(self, topic: str) -> dict[int, int]:
        """The end offset of each partition before the first open transaction. Raises as `ends` does."""

    def newest_ms(self, topic: str) -> dict[int, int]:
        """The time of the newest record of each partition, in milliseconds; an empty partition is absent.

        Empty if the broker cannot tell (before 3.0). Raises BrokerAwayError, also if the topic does not exist.
        """

    def brokers(self) -> list[str]:
        """The addresses, each `host:port`, that the cluster sends its clients to; the broker reached first answers."""

    def close(self) -> None:
        """Close the connections."""


class Topics(Protocol):
    """What is known of a loop's topics; sends no requests and never waits. See topic_watch.TopicWatch."""

    def current(self, name: str) -> TopicState:
        """A topic's state. Raises BrokerAwayError if none was seen for a few seconds."""

    def missing(self) -> tuple[str, ...]:
        """The topics that the broker lacked at the last looks."""

    def recreated(self, *names: str) -> int:
        """How often one of these topics was recreated since this process began."""

    def answers(self) -> tuple[float, int]:
        """Until when the broker answered without a break, and how many breaks there were so far."""


class RecordLookup(Protocol):
    """Reads single records of one topic, without a consumer group. For one thread at a time, but any thread."""

    def record_at(self, partition: int, offset: int, timeout_seconds: float) -> StoredRecord | None:
        """The record at exactly this offset as the broker has it now, or None if there is none.

        There is none before the first record kept or beyond the last, where a record was compacted away, or where a
        transaction left a marker. Records of aborted or unfinished transactions do count. Raises BrokerAwayError if the
        broker does not answer in time or does not have the partition, and BrokerError.
        """

    def close(self) -> None:
        """Close the connections."""
