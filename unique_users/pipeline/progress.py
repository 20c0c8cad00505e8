"""The progress of the whole pipeline, from `feed` to the counters, by the commits of both groups. Pure."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from unique_users.clients.protocols import Admin, Position
from unique_users.config.schema import Config
from unique_users.errors import BrokerAwayError
from unique_users.messages.frame_totals import FrameTotals
from unique_users.messages.offset_metadata import OffsetMetadata, late_of
from unique_users.pipeline.low_watermark import Committed, LowWatermark


class Progress(NamedTuple):
    """One look at the line.

    Once a partition of `bucketed` is read to its end in `bucketed_ends`, nothing before `low_watermark` arrives in it,
    except from partitions of `feed` that were idle.
    """

    low_watermark: int | None
    bucketed_ends: Mapping[int, int]
    committed: Mapping[int, Committed]  # by partition of feed, what was deleted unread is taken for read
    unread: int  # frames in feed that the bucketers have not committed, without those of open transactions
    behind_seconds: float | None  # how far the Kafka time of the newest frame is ahead of the committed position
    late: int  # users that the counters have rejected as late
    in_transactions: int = 0  # records of feed behind the start of an open transaction
    missing_from: int | None = None  # frames were deleted unread from this time on, up to one that nobody knows yet
    feed_ends: Mapping[int, int] = {}
    counted: Mapping[int, int] = {}  # what the counters have committed, by partition of bucketed
    clock: int | None = None  # the event time that the slowest partition of feed has reached
    bucketed_id: str = ""  # the topic whose ends these are; empty if the broker has no ids

    @property
    def uncounted(self) -> int:
        """Records in bucketed that the counters have not committed."""
        return sum(max(0, end - self.counted.get(partition, 0)) for partition, end in self.bucketed_ends.items())

    def totals(self) -> FrameTotals | None:
        """All frames that were read; `accepted` are those counted or waiting in `bucketed`.

        None if the bucketers started counting frames afresh, and the counters know of late ones from before.
        """
        totals = sum((each.metadata.totals or FrameTotals() for each in self.committed.values()), FrameTotals())
        if totals.accepted < self.late:
            return None
        return totals + FrameTotals(0, -self.late, Counter({"late": self.late} if self.late else {}))


def look(admin: Admin, config: Config, low_watermark: LowWatermark, now: float) -> Progress:
    """Look at the line. Raises BrokerAwayError, and BrokerError if a right is missing.

    The order matters: 1. the bounds of `feed`, 2. its committed offsets, whose frames are all acknowledged in
    `bucketed`, 3. the ends of `bucketed`, which lie after all of those.
    """
    topics = config.topics
    feed_id, bucketed_id = (_id_of(admin, topic.name) for topic in (topics.feed, topics.bucketed))
    low_watermark.begin_anew_if_recreated(feed_id)
    feed_starts, feed_ends = admin.starts(topics.feed.name), admin.high_watermark_offsets(topics.feed.name)
    committed = {
        partition: Committed(position.offset, OffsetMetadata.parsed(position.metadata))
        for partition, position in admin.committed(config.bucketer.group, topics.feed.name).items()
    }
    # Commits outlive their topic.
    committed = {p: each for p, each in committed.items() if each.metadata.topic_id in {"", feed_id}}
    bucketed_ends = admin.high_watermark_offsets(topics.bucketed.name)
    counted = admin.committed(config.counter.group, topics.bucketed.name)
    missing_from = _missing_from(committed, feed_starts)
    # What was deleted unread is no longer waited for.
    committed = {p: each._replace(offset=max(each.offset, feed_starts.get(p, 0))) for p, each in committed.items()}
    stable = feed_ends | admin.stable_ends(topics.feed.name)
    unread = {p: max(0, stable[p] - (committed[p].reached if p in committed else 0)) for p in feed_ends}
    return Progress(
        low_watermark.update(committed, feed_ends, now),
        bucketed_ends,
        committed,
        sum(unread.values()),
        _behind_seconds(admin.newest_ms(topics.feed.name), committed, unread) if any(unread.values()) else 0.0,
        _late(counted),
        sum(max(0, end - stable[partition]) for partition, end in feed_ends.items()),
        missing_from,
        feed_ends,
        {partition: position.offset for partition, position in counted.items()},
        low_watermark.clock,
        bucketed_id,
    )


def _id_of(admin: Admin, topic: str) -> str:
    state = admin.describe(topic)
    if state is None:
        raise BrokerAwayError(f"topic {topic!r} does not exist")
    return state.id


def _missing_from(committed: Mapping[int, Committed], feed_starts: Mapping[int, int]) -> int | None:
    """The event time that the frames deleted unread right before the next one had at least; None if there are none."""
    since = []
    for partition, first in feed_starts.items():
        offset, metadata = committed.get(partition, Committed(0, OffsetMetadata()))
        if metadata.missed or first > offset:
            since.append(metadata.watermark() or 0)
    return min(since, default=None)


def _behind_seconds(
    newest_ms: Mapping[int, int], committed: Mapping[int, Committed], unread: Mapping[int, int]
) -> float | None:
    """The maximum over all partitions with unread frames; None if one is unknown."""
    behind: list[float] = []
    for partition, frames in unread.items():
        if frames:
            read_ms = committed[partition].metadata.newest_ms if partition in committed else None
            if read_ms is None or partition not in newest_ms:
                return None
            behind.append(max(0, newest_ms[partition] - read_ms) / 1000)
    return max(behind, default=0.0)


def _late(counted: Mapping[int, Position]) -> int:
    return sum(late_of(position.metadata) for position in counted.values())


class ProgressSource(Protocol):
    """Where loops get the progress from; see progress_watch.ProgressWatch."""

    def current(self) -> Progress | None:
        """What was seen last, or None if nothing was seen for a while."""

    def look(self) -> None:
        """Look now."""
