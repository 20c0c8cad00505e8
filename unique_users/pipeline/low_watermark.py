"""How far the stream is, over all partitions of `feed`: its low watermark and its slowest clock. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from unique_users.messages.offset_metadata import OffsetMetadata


class Committed(NamedTuple):
    """What the bucketers have committed for one partition of `feed`."""

    offset: int
    metadata: OffsetMetadata

    @property
    def reached(self) -> int:
        """Up to here there are no more frames; transactions leave markers behind, which nobody counts."""
        return self.metadata.reached_from(self.offset)


class LowWatermark:
    """The minimum of the watermarks that the bucketers have committed, over all partitions that are not idle.

    It is the event time before which nothing more arrives. `clock` is the minimum of their clocks, the event time that
    the stream has reached. Neither goes back. A partition is idle when it was read to its end and nothing has arrived
    for `idle_seconds`. When it wakes, its frames may be older than the low watermark. A partition that nobody reads
    holds both.
    """

    def __init__(self, idle_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        self._quiet_since: dict[int, tuple[int, float]] = {}  # the end up to which all was read, and since when
        self._topic_id = ""
        self.value: int | None = None
        self.clock: int | None = None

    def update(self, committed: Mapping[int, Committed], ends: Mapping[int, int], now: float) -> int | None:
        """Take in the commits of each partition, whose `ends` were asked for first, at the monotonic time `now`."""
        holding = [
            committed[partition].metadata if partition in committed else OffsetMetadata()
            for partition, end in ends.items()
            if not self._is_idle(partition, committed.get(partition), end, now)
        ]
        self.value = _later([metadata.watermark() for metadata in holding], self.value)
        self.clock = _later([metadata.now() for metadata in holding], self.clock)
        return self.value

    def begin_anew_if_recreated(self, topic_id: str) -> None:
        """Forget everything if `feed` is another topic than before; what is known is about the former one."""
        if topic_id != self._topic_id:
            self._topic_id = topic_id
            self._quiet_since.clear()
            self.value = self.clock = None

    def _is_idle(self, partition: int, committed: Committed | None, end: int, now: float) -> bool:
        if (committed.reached if committed else 0) < end:
            self._quiet_since.pop(partition, None)
            return False
        quiet_end, since = self._quiet_since.get(partition, (end, now))
        if quiet_end != end:
            since = now
        self._quiet_since[partition] = (end, since)
        return now - since >= self._idle_seconds


def _later(times: Sequence[int | None], before: int | None) -> int | None:
    """The earliest of the times, if all are known and it is later than the one before."""
    known = [time for time in times if time is not None]
    if not known or len(known) < len(times):
        return before
    return max(min(known), before or 0)
