"""The stream clock of docs/design.md, written a second time: slow, simple and sharing no code with the first. Pure."""

from statistics import median_low

_BLOCK = 101
_MEDIANS = 9


class PlainClock:
    """Judges whether frames are late, one after the other.

    Every 101 accepted times give a median. The clock is the highest value so far of the median of the last nine of
    these. A frame is late if it is behind the clock by more than the allowed lateness.
    """

    def __init__(self, allowed_lateness_seconds: int) -> None:
        self._allowed = allowed_lateness_seconds
        self._times: list[int] = []
        self._medians: list[int] = []
        self.watermark: int | None = None  # earlier times are late

    def admits(self, ts: int) -> bool:
        """Whether a frame with this time is in time; if so, it moves the clock."""
        if self.watermark is not None and ts < self.watermark:
            return False
        self._times.append(ts)
        if len(self._times) == _BLOCK:
            self._medians = [*self._medians, median_low(self._times)][-_MEDIANS:]
            self._times = []
            if self._allowed:
                now = median_low(self._medians) - self._allowed
                self.watermark = now if self.watermark is None else max(self.watermark, now)
        return True
