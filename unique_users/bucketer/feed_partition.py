"""One partition of `feed`: how far it is read and committed, and what its next owner has to know."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from unique_users.aggregation.completeness import Gap, Why, gap_of_deleted, with_gaps
from unique_users.clients.protocols import Batch, Position
from unique_users.event_time.stream_clock import StreamClock
from unique_users.messages.checkpoints import Checkpoint, Found
from unique_users.messages.frame_totals import FrameTotals
from unique_users.messages.offset_metadata import CHECKPOINTS_MAX, RECENT, OffsetMetadata
from unique_users.messages.partitioning import Layout
from unique_users.partition_log.read_history import Past


@dataclass
class FeedPartition:
    """One partition of `feed` that this member of the group reads."""

    topic_id: str
    clock: StreamClock
    position: int
    committed: int
    totals: FrameTotals  # of all frames up to `committed`, whoever read them; frames that were read again count twice
    past: Past
    newest_ms: int | None = None  # the Kafka time of the last frame read
    recorded: int | None = None  # the group's committed position, according to the broker
    announced: bool = False  # committed once: the commits then show that somebody reads the partition
    gaps: tuple[Gap, ...] = ()  # of frames that were deleted before they were read, whoever missed them
    missed: bool = False  # frames right before the next one were deleted
    began_with: int = 0  # see OffsetMetadata
    reached: int = 0  # once all frames read are committed: there are no more up to here
    told: int = 0  # the part of `reached` that is committed
    pending: FrameTotals = field(default_factory=FrameTotals)  # since the last commit

    def to_commit(self, layout: Layout) -> Position:
        """The position, with what a restart needs to judge and place the next frames as this process would."""
        totals = self.totals + self.pending
        clock, history = self.clock.to_metadata(), self.past.remember()
        reached = self.reached if self.reached > self.position else 0
        told = (totals, self.newest_ms, history, self.gaps, self.missed, reached, self.began_with)
        metadata = OffsetMetadata(self.topic_id, clock, layout, *told)
        return Position(self.position, metadata.text())

    def mark_missed(self, first_kept_ms: int, future_seconds_max: int) -> None:
        """Note that frames before one of this Kafka time were deleted before they were read."""
        start = self.clock.watermark() or 0
        gap = gap_of_deleted(Why.RECORDS_DELETED, start, first_kept_ms, future_seconds_max)
        self.gaps = with_gaps(self.gaps, [gap])
        self.missed = False

    def mark_read(self, batch: Batch, counts: FrameTotals, now: float) -> None:
        """Note that a batch was handled at monotonic time `now` and its records were sent."""
        self.pending += counts
        self.position = batch.next_offset
        self.reached = 0
        self.past.read(batch, now)
        self.newest_ms = batch.timestamps_ms[-1]

    def mark_committed(self) -> None:
        """Note that everything read so far is committed."""
        self.committed = self.recorded = self.position
        self.announced, self.told = True, self.reached
        self.totals += self.pending
        self.pending = FrameTotals()

    def mark_reached(self, offset: int) -> None:
        """Note that there are no more frames up to an offset, provided that all those read are committed."""
        if self.position == self.committed:
            self.reached = max(self.position, offset)

    @property
    def has_news(self) -> bool:
        """Whether there is something to commit."""
        return self.position != self.committed or not self.announced or self.reached > max(self.position, self.told)

    def go_back_to(self, found: Found, clock: StreamClock) -> None:
        """Go back to where the log is still the one that was read; to its start, with a new clock, if it is nowhere."""
        if found.back_to is None:
            self.begin_again(found.offset, clock)
        else:
            self.go_back(found.offset)

    def begin_again(self, offset: int, clock: StreamClock) -> None:
        """Start over at an offset: the topic is another one."""
        self.committed = self.position = offset
        self.clock, self.totals, self.past = clock, FrameTotals(), remembered(())
        self.missed = offset > 0

    def go_back(self, offset: int) -> None:
        """Read again from an earlier offset of the same topic. The clock stays, so it judges as it would have."""
        self.past.go_back(offset)
        self.position = offset


def remembered(history: Sequence[Checkpoint]) -> Past:
    """The past of a partition of `feed`, as far as a commit has room for it."""
    return Past(history, CHECKPOINTS_MAX, RECENT)
