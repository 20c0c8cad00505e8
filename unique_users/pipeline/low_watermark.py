"""The low watermark: the event time before which nothing more arrives, over all partitions of `feed`. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

from unique_users.messages.offset_metadata import OffsetMetadata


class Committed(NamedTuple):
    """What the bucketers have committed for one partition of `feed`."""

    offset: int
    metadata: OffsetMetadata


class LowWatermark:
    """The minimum of the watermarks that the bucketers have committed, over all partitions that are not idle.

    It never goes back. A partition is idle when it was read to its end and nothing has arrived for `idle_seconds`. When
    it wakes, its frames may be older than the low watermark. A partition that nobody reads holds the low watermark.
    """

    def __init__(self, idle_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        self._quiet_since: dict[int, tuple[int, float]] = {}  # the end up to which all was read, and since when
        self._topic_id = ""
        self.value: int | None = None

    def update(self, committed: Mapping[int, Committed], ends: Mapping[int, int], now: float) -> int | None:
        """Take in the commits of each partition, whose `ends` were asked for first, at the monotonic time `now`."""
        self._begin_anew_with_another_topic(committed)
        holding = [
            committed[partition].metadata.watermark() if partition in committed else None
            for partition, end in ends.items()
            if not self._is_idle(partition, committed.get(partition), end, now)
        ]
        known = [watermark for watermark in holding if watermark is not None]
        if known and len(known) == len(holding):
            self.value = max(min(known), self.value or 0)
        return self.value

    def _begin_anew_with_another_topic(self, committed: Mapping[int, Committed]) -> None:
        topic_ids = {each.metadata.topic_id for each in committed.values()} - {self._topic_id}
        if topic_ids and self._topic_id not in {each.metadata.topic_id for each in committed.values()}:
            self._topic_id = max(topic_ids)
            self._quiet_since.clear()
            self.value = None

    def _is_idle(self, partition: int, committed: Committed | None, end: int, now: float) -> bool:
        if (committed.offset if committed else 0) < end:
            self._quiet_since.pop(partition, None)
            return False
        quiet_end, since = self._quiet_since.get(partition, (end, now))
        if quiet_end != end:
            since = now
        self._quiet_since[partition] = (end, since)
        return now - since >= self._idle_seconds
