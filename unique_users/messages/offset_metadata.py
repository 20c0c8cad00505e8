"""The metadata that the bucketer stores with its committed offsets; written and read only here. Pure.

Words separated by single spaces: the topic's id, the stream clock, the layout of `bucketed`. Since version 0.2, more
words of the form `name=value` follow; a reader skips those that it does not know.
"""

from collections import Counter
from typing import NamedTuple, Self

from unique_users.aggregation.completeness import Gap, Why, with_gaps
from unique_users.event_time.stream_clock import StreamClock
from unique_users.messages.checkpoints import Checkpoint
from unique_users.messages.frame_totals import FrameTotals
from unique_users.messages.partitioning import Layout

_TOTALS, _NEWEST, _HISTORY, _GAPS, _MISSED = "frames", "newest_ms", "history", "gaps", "missed"
_BEGAN_WITH, _REACHED = "began_with", "reached"
CHECKPOINTS_MAX, RECENT = 7, 2  # a broker stores 4,096 bytes; see checkpoints.thinned
GAPS_MAX = 8  # in the metadata; beyond that, the nearest are joined


class OffsetMetadata(NamedTuple):
    """What a restart and other processes need to know of one partition of `feed`, as of a committed offset."""

    topic_id: str = ""
    clock: str = ""  # see StreamClock.to_metadata
    layout: Layout | None = None
    totals: FrameTotals | None = None  # of all frames up to the offset; None if version 0.1 read them
    newest_ms: int | None = None  # the Kafka time of the last frame before the offset
    history: tuple[Checkpoint, ...] = ()  # oldest first, without minutes
    gaps: tuple[Gap, ...] = ()  # of frames that the topic's retention deleted before they were read
    missed: bool = False  # the frames right before the offset were deleted: the next one tells where that gap ends
    reached: int = 0  # no more frames up to here, only what transactions leave behind; 0: up to the offset
    began_with: int = 0  # partitions that feed had when the group began, if not at the start; else 0

    def reached_from(self, offset: int) -> int:
        """Up to where nothing is left to read, with this at the committed `offset`."""
        return max(offset, self.reached)

    def text(self) -> str:
        """As a broker stores it."""
        words = [self.topic_id, self.clock, "" if self.layout is None else str(self.layout)]
        if self.totals is not None:
            rejected = (f"{reason}:{number}" for reason, number in sorted(self.totals.rejected.items()))
            words.append(f"{_TOTALS}={','.join([str(self.totals.read), str(self.totals.accepted), *rejected])}")
        if self.newest_ms is not None:
            words.append(f"{_NEWEST}={self.newest_ms}")
        if self.history:
            points = (f"{c.next_offset}:{c.leader_epoch}:{c.record_hash.hex()}" for c in self.history)
            words.append(f"{_HISTORY}={','.join(points)}")
        if self.gaps:
            words.append(f"{_GAPS}={','.join(f'{gap.start}:{gap.end}' for gap in with_gaps((), self.gaps, GAPS_MAX))}")
        if self.missed:
            words.append(f"{_MISSED}=1")
        if self.reached:
            words.append(f"{_REACHED}={self.reached}")
        if self.began_with:
            words.append(f"{_BEGAN_WITH}={self.began_with}")
        return " ".join(words)

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Parse what `text` wrote, in this version or an earlier one; empty for what another program wrote."""
        topic_id, clock, layout, *more = (*text.split(" "), "", "", "")[: max(3, text.count(" ") + 1)]
        words = dict(word.split("=", 1) for word in more if "=" in word)
        newest = words.get(_NEWEST, "")
        return cls(
            topic_id,
            clock,
            Layout.parsed(layout),
            _totals(words.get(_TOTALS, "")),
            int(newest) if newest.removeprefix("-").isdecimal() else None,
            _history(words.get(_HISTORY, "")),
            _gaps(words.get(_GAPS, "")),
            words.get(_MISSED) == "1",
            _number(words.get(_REACHED, "")),
            _number(words.get(_BEGAN_WITH, "")),
        )

    def watermark(self) -> int | None:
        """No frame before this time will be accepted from the partition any more; None if any still may."""
        return StreamClock.from_metadata(0, self.clock).watermark()

    def now(self) -> int | None:
        """The event time that the partition has reached; None while it has seen too few frames to tell."""
        return StreamClock.from_metadata(0, self.clock).now()


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _gaps(text: str) -> tuple[Gap, ...]:
    try:
        ends = (pair.split(":") for pair in text.split(",") if pair)
        return with_gaps((), [Gap("", int(start), int(end), Why.RECORDS_DELETED) for start, end in ends], GAPS_MAX)
    except ValueError:
        return ()


def _totals(text: str) -> FrameTotals | None:
    try:
        read, accepted, *rejected = text.split(",")
        pairs = (pair.split(":") for pair in rejected)
        return FrameTotals(int(read), int(accepted), Counter({reason: int(number) for reason, number in pairs}))
    except ValueError:
        return None


def _history(text: str) -> tuple[Checkpoint, ...]:
    try:
        points = (point.split(":") for point in text.split(",") if text)
        return tuple(Checkpoint(int(offset), int(epoch), bytes.fromhex(digest)) for offset, epoch, digest in points)
    except ValueError:
        return ()


_LATE = "late="


def late_text(late: int) -> str:
    """What a counter stores with its offsets: how many users of its partition it has rejected as late."""
    return f"{_LATE}{late}" if late else ""


def late_of(text: str) -> int:
    """The number in what `late_text` wrote, or 0 for any other string."""
    number = text.removeprefix(_LATE)
    return int(number) if text.startswith(_LATE) and number.isdecimal() else 0
