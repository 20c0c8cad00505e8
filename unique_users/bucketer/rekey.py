"""Re-keying: frames are judged, and become records of `bucketed`, keyed by their minute. Pure."""

from collections import Counter
from collections.abc import Container, Sequence
from typing import NamedTuple

from unique_users.event_time.stream_clock import StreamClock
from unique_users.messages.bucketed import COMBINED_BYTES_MAX, Records, combined_records, plain_records
from unique_users.messages.frame import FrameParser, Parsed, Reason
from unique_users.messages.frame_counts import FrameCounts


class Rejected(NamedTuple):
    """A record that is not counted, and why."""

    place: int  # its index in the batch
    reason: Reason
    detail: str


class Rekeyed(NamedTuple):
    """The result for one batch: its records of `bucketed` as columns of equal length, and the rejected frames."""

    keys: list[bytes]
    values: list[bytes]
    partitions: list[int] | None  # None: the keys choose them
    rejected: list[Rejected]
    accepted: int  # frames; as many as there are records, unless these are combined

    def counts(self) -> FrameCounts:
        """The counts of the batch."""
        reasons = Counter(rejected.reason.value for rejected in self.rejected)
        return FrameCounts(self.accepted + len(self.rejected), self.accepted, reasons)


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

    def rekey(self, frames: Sequence[bytes | None], timestamps_ms: Sequence[int], clock: StreamClock) -> Rekeyed:
        """Judge and re-key `frames`, whose records carry the Kafka times `timestamps_ms`, and advance the clock."""
        parsed = self._parser.parse_all(frames)
        rejected = [Rejected(place, error.reason, error.detail) for place, error in parsed.refused]
        uids, times, places = parsed.uids, parsed.times, parsed.places
        if times and max(times) * 1000 > min(timestamps_ms) + self._future_ms_max:
            future = self._future(parsed, timestamps_ms)
            rejected += future.values()
            uids, times, places = _without(future, uids, times, places)
        if late := set(clock.admit(times)):
            rejected.extend(Rejected(places[i], Reason.LATE, clock.lateness(times[i])) for i in sorted(late))
            uids, times, places = _without(late, uids, times, places)
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
                detail = f"{ts - timestamps_ms[place] // 1000} s ahead of its record"
                future[index] = Rejected(place, Reason.FUTURE, detail)
        return future


def _without(
    indices: Container[int], uids: Sequence[str], times: Sequence[int], places: Sequence[int]
) -> tuple[list[str], list[int], list[int]]:
    """The columns without the rows at `indices`."""
    kept = [index for index in range(len(uids)) if index not in indices]
    return [uids[i] for i in kept], [times[i] for i in kept], [places[i] for i in kept]
