"""What the three scripts report about themselves: the same things in the same order, as text or JSON. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self

import orjson

from unique_users.event_time.buckets import iso_time
from unique_users.messages.frame_totals import FrameTotals
from unique_users.reports.bucket_count import Format
from unique_users.reports.folding import folded, glued
from unique_users.reports.meter import Reading


@dataclass(frozen=True, kw_only=True)
class Report:
    """How fast a script reads, how much it has read in all and since the last report, and what became of it."""

    READS: ClassVar = "frames"
    ACCEPTED: ClassVar = "accepted"  # the word for the frames that were not rejected

    at: int  # wall time in epoch seconds
    reading: Reading
    frames: FrameTotals | None = None  # None if unknown

    def lines(self, form: Format) -> list[str]:
        """As lines of text of at most 80 columns that all begin with the time, or as one line of JSON."""
        at = iso_time(self.at)
        if form == "json":
            return [orjson.dumps(self.fields()).decode()]
        lines = [line for text in self._texts() for line in folded(f"{at}  report  ", text)]
        if self.frames is not None and self.frames.read:
            lines += folded(f"{at}  frames  ", _sum(self.frames, self.ACCEPTED))
        if self.frames is not None and self.frames.rejected:
            lines += folded(f"{at}  frames  rejected: ", _reasons(self.frames))
        return lines

    def fields(self) -> dict[str, Any]:
        """As JSON fields."""
        return {"report": iso_time(self.at), **self._fields()}

    def _texts(self) -> Iterator[str]:
        yield ", ".join([self._read(), *self._left()])

    def _read(self) -> str:
        read = self.reading
        return f"{read.per_second:,}/s, {glued(f'{read.total:,} {self.READS} read')} (+{read.new:,})"

    def _left(self) -> Iterator[str]:
        """What is left to do, and what is out of the ordinary."""
        yield from ()

    def _fields(self) -> dict[str, Any]:
        frames = self.frames
        return {
            "per_second": self.reading.per_second,
            "read": self.reading.total,
            "new": self.reading.new,
            "frames": frames
            and {"read": frames.read, "accepted": frames.accepted, "rejected": dict(sorted(frames.rejected.items()))},
        }


@dataclass(frozen=True, kw_only=True)
class ProducerReport(Report):
    """What the producer read from its files and the broker acknowledged; a line too long for Kafka is rejected."""

    ACCEPTED: ClassVar = "sent"

    blank_lines: int = 0  # skipped, not counted as frames

    def _left(self) -> Iterator[str]:
        if self.blank_lines:
            yield glued(f"{self.blank_lines:,} blank lines")

    def _fields(self) -> dict[str, Any]:
        return {**super()._fields(), "blank_lines": self.blank_lines}


@dataclass(frozen=True, kw_only=True)
class BucketerReport(Report):
    """What this bucketer has committed, and what is left to do."""

    lag: int | None  # what is not committed yet; None if unknown
    partitions: tuple[int, ...]  # of the topic, assigned to this process; with none it has nothing to do
    of: int | None  # how many the topic has; None if unknown
    missing: tuple[str, ...] = ()  # topics that are gone
    in_transactions: int = 0  # records of feed behind the start of an open transaction, which do not count as lag

    def _left(self) -> Iterator[str]:
        if self.lag is not None:
            yield glued(f"lag {self.lag:,}")
        for topic in self.missing:
            yield glued(f"no topic {topic!r}")
        if self.lag is None and not self.missing:
            yield glued("no answer from the broker")
        if self.in_transactions:
            yield glued(f"{self.in_transactions:,} frames wait behind an open transaction")
        if not self.partitions:
            yield glued("no partition")
        elif len(self.partitions) != self.of:
            yield _share(self.partitions, self.of)

    def _fields(self) -> dict[str, Any]:
        return {
            **super()._fields(),
            "lag": self.lag,
            "partitions": list(self.partitions),
            "of": self.of,
            "broker_answers": self.lag is not None or bool(self.missing),
            "missing": list(self.missing),
            "in_transactions": self.in_transactions,
        }


@dataclass(frozen=True, kw_only=True)
class CounterReport(BucketerReport):
    """What this counter has read, and what became of all frames, which all bucketers and counters share."""

    READS: ClassVar = "messages"
    ACCEPTED: ClassVar = "counted"

    buckets_changed: int  # since the last report
    unreadable: int = 0  # messages since the last report that this program did not write
    feed_lag: int | None = None  # frames that no bucketer has committed; None if unknown
    feed_behind_seconds: float | None = None  # of the newest of these; None if unknown

    def _texts(self) -> Iterator[str]:
        """One line each: together they seldom fit, and a line that folds only now and then is harder to read."""
        yield self._read()
        yield ", ".join(self._left())

    def _left(self) -> Iterator[str]:
        yield glued(f"{self.buckets_changed:,} buckets changed")
        yield from super()._left()
        if self.feed_lag:
            seconds = "" if self.feed_behind_seconds is None else f" ({self.feed_behind_seconds:,.0f} s)"
            yield glued(f"feed lag {self.feed_lag:,}{seconds}")
        if self.unreadable:
            yield glued(f"{self.unreadable:,} unreadable messages skipped")

    def _fields(self) -> dict[str, Any]:
        return {
            **super()._fields(),
            **{name: getattr(self, name) for name in _COUNTERS},
        }

    @classmethod
    def parsed(cls, fields: dict[str, Any]) -> Self:
        """Parse what `lines` wrote as JSON."""
        frames = fields["frames"]
        return cls(
            at=int(datetime.fromisoformat(fields["report"]).timestamp()),
            reading=Reading(fields["read"], fields["new"], fields["per_second"]),
            frames=frames and FrameTotals(frames["read"], frames["accepted"], Counter(frames["rejected"])),
            lag=fields["lag"],
            partitions=tuple(fields["partitions"]),
            of=fields["of"],
            missing=tuple(fields["missing"]),
            **{name: fields[name] for name in _COUNTERS},
        )


FEW_COLUMNS = 30  # a text below this width stays on one line
_COUNTERS = ("buckets_changed", "unreadable", "feed_lag", "feed_behind_seconds")


def _sum(frames: FrameTotals, accepted: str) -> str:
    pieces = (f"{frames.read:,} read", f"= {frames.accepted:,} {accepted}", f"+ {frames.rejected.total():,} rejected")
    return " ".join(map(glued, pieces))


def _reasons(frames: FrameTotals) -> str:
    return ", ".join(glued(f"{reason} {n:,}") for reason, n in sorted(frames.rejected.items()))


def _share(partitions: Sequence[int], of: int | None) -> str:
    numbers = " ".join(map(str, partitions))
    text = f"partition{'s' if len(partitions) > 1 else ''} {numbers} of {of}"
    return glued(text) if len(text) < FEW_COLUMNS else text
