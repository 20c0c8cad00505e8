"""Re-keying: frames are judged, and become records of `bucketed`, keyed by their minute. Pure."""

from collections import Counter
from collections.abc import Container, Sequence
from typing import NamedTuple

from unique_users.bucketer.future import ahead
from unique_users.event_time.stream_clock import StreamClock
from unique_users.messages.bucketed import COMBINED_BYTES_MAX, Records, combined_records, plain_records
from unique_users.messages.fields import RecordColumns
from unique_users.messages.frame import Reason
from unique_users.messages.frame_parser import Element, FrameParser, Parsed
from unique_users.messages.frame_totals import FrameTotals
from unique_users.runtime.activity import Distribution

LATENESS_EVERY = 8  # one frame of so many is looked at for the histogram of lateness


class Rejected(NamedTuple):
    """A record that is not counted, and why."""

    place: int  # its index in the batch
    reason: Reason
    detail: str
    element: Element | None = None  # the rejected frame, if the record holds several


class Rekeyed(NamedTuple):
    """The result for one batch: its records of `bucketed` as columns of equal length, and the rejected frames."""

    keys: list[bytes]
    values: list[bytes]
    partitions: list[int] | None  # None: the keys choose them
    rejected: list[Rejected]
    accepted: int  # frames; as many as there are records, unless these are combined

    def counts(self) -> FrameTotals:
        """The counts of the batch."""
        reasons = Counter(rejected.reason.value for rejected in self.rejected)
        return FrameTotals(self.accepted + len(self.rejected), self.accepted, reasons)


def all_rejected(count: int, reason: Reason, detail: str) -> Rekeyed:
    """The result for a batch in which every record is rejected, all for the same reason."""
    return Rekeyed([], [], None, [Rejected(place, reason, detail) for place in range(count)], 0)


class Rekeyer:
    """Turns batches of frames into records of `bucketed`.

    One for each accepted frame; or, with `combine`, one for each minute of a batch, with all its users. With
    `partitions`, each user is assigned one of that many, and a combined record holds the users of one of them.
    """

    def __init__(
        self, parser: FrameParser, future_seconds_max: int, *, combine: bool = False, partitions: int | None = None
    ) -> None:
        self._parser = parser
        self._future_ms_max = future_seconds_max * 1000
        self._combine = combine
        self._partitions = partitions
        self.combined_bytes_max = COMBINED_BYTES_MAX
        self.lateness: Distribution | None = None  # of one frame in LATENESS_EVERY, if anybody wants to know

    def rekey(
        self,
        messages: Sequence[bytes | None],
        timestamps_ms: Sequence[int],
        clock: StreamClock,
        keys: Sequence[bytes | None] | None = None,
    ) -> Rekeyed:
        """Judge and re-key the frames in `messages`, and advance the clock.

        The messages are the values of records with the Kafka times `timestamps_ms` and the `keys`, which only some
        formats need.
        """
        parsed = self._parser.parse_all(messages, RecordColumns(keys, timestamps_ms))
        rejected = [Rejected(each.place, each.error.reason, each.error.detail, each.element) for each in parsed.refused]
        uids, times = parsed.uids, parsed.times
        indices: Sequence[int] = range(len(uids))  # in the columns of `parsed`
        if times and max(times) * 1000 > min(timestamps_ms) + self._future_ms_max:
            future = self._future(parsed, timestamps_ms)
            rejected += future.values()
            uids, times, indices = _without(future, uids, times, indices)
        if self.lateness is not None and (now := clock.now()) is not None:
            for ts, frames in Counter(times[::LATENESS_EVERY]).items():
                self.lateness.add(max(0, now - ts), frames)
        if late := set(clock.admit(times)):
            for i in sorted(late):
                element = parsed.elements.get(indices[i])
                rejected.append(Rejected(parsed.places[indices[i]], Reason.LATE, clock.lateness(times[i]), element))
            uids, times, _ = _without(late, uids, times, indices)
        return Rekeyed(*self._records(uids, times), rejected, len(uids))

    def _records(self, uids: Sequence[str], times: Sequence[int]) -> Records:
        if self._combine:
            return combined_records(uids, times, self._partitions, self.combined_bytes_max)
        return plain_records(uids, times, self._partitions)

    def _future(self, parsed: Parsed, timestamps_ms: Sequence[int]) -> dict[int, Rejected]:
        """The frames too far ahead of their records, by their index in `parsed`."""
        future = {}
        for index, (ts, place) in enumerate(zip(parsed.times, parsed.places, strict=True)):
            # A record without a time of its own (-1) says nothing about the future.
            if ts * 1000 > timestamps_ms[place] + self._future_ms_max and timestamps_ms[place] >= 0:
                detail = ahead(ts, timestamps_ms[place])
                future[index] = Rejected(place, Reason.FUTURE, detail, parsed.elements.get(index))
        return future


def _without(
    dropped: Container[int], uids: Sequence[str], times: Sequence[int], indices: Sequence[int]
) -> tuple[list[str], list[int], Sequence[int]]:
    """The columns without the rows in `dropped`."""
    kept = [row for row in range(len(uids)) if row not in dropped]
    return [uids[row] for row in kept], [times[row] for row in kept], [indices[row] for row in kept]
