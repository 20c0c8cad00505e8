"""The stream clock: event time as the stream itself tells it, robust against single wrong times. Pure."""

import base64
import binascii
import zlib
from collections import deque
from collections.abc import Sequence

WINDOW = 1_001  # accepted times whose median is the clock
JUDGES_FROM = 101  # accepted times before the clock calls anything late
METADATA_BYTES_MAX = 4_000  # a broker takes 4,096 by default (`offset.metadata.max.bytes`)
_FORM = "clock1:"


class StreamClock:
    """The median of the last 1,001 accepted event times, in epoch seconds.

    A frame is late when its time is more than `retention_seconds` behind the clock; with 0 nothing is late. The
    clock judges once it has seen 101 times. Only accepted times move it.
    """

    def __init__(self, retention_seconds: int, times: Sequence[int] = ()) -> None:
        self._retention = retention_seconds
        self._times: deque[int] = deque(times, maxlen=WINDOW)
        self._no_later = max(times, default=0)  # an upper bound of `_times`

    def now(self) -> int | None:
        """The clock's time, or None while it does not judge yet."""
        if len(self._times) < JUDGES_FROM:
            return None
        return sorted(self._times)[(len(self._times) - 1) // 2]

    def admit(self, times: Sequence[int]) -> list[int]:
        """Judge `times` one after the other, as they came, and return the indices of the late ones.

        The median needs no sorting for each frame. It is no larger than the largest time. And an accepted time moves it
        by one rank at most, so for the next `k` times it stays at or below the element `k` ranks above it. What is not
        late against one of these is not late against the median. Only what is late against both is judged by it.
        """
        if not times:
            return []
        if not self._retention or self._none_can_be_late(times):
            self._times.extend(times[-WINDOW:])
            return []
        late: list[int] = []
        start = 0
        while start < len(times):
            ranks = sorted(self._times)
            seen = len(ranks)
            if seen < JUDGES_FROM:
                self._times.extend(times[start : start + JUDGES_FROM - seen])
                start += JUDGES_FROM - seen
                continue
            reach = seen // 4
            chunk = times[start : start + reach]
            if min(chunk) >= ranks[(seen - 1) // 2 + reach] - self._retention:
                self._times.extend(chunk)
            else:
                late.extend(start + index for index in self._admit_singly(chunk))
            start += reach
        return late

    def _none_can_be_late(self, times: Sequence[int]) -> bool:
        latest, floor = max(times), min(times) + self._retention
        if max(latest, self._no_later) > floor:
            self._no_later = max(self._times, default=0)
        self._no_later = max(latest, self._no_later)
        return self._no_later <= floor

    def _admit_singly(self, times: Sequence[int]) -> list[int]:
        late = []
        for index, ts in enumerate(times):
            now = self.now()
            if now is not None and ts < now - self._retention:
                late.append(index)
            else:
                self._times.append(ts)
        return late

    def to_metadata(self) -> str:
        """The clock as text for an offset commit, 4,000 bytes at most.

        Times that lie near each other take about a byte. Where the window does not fit, its newer part is kept, and
        the clock starts again from the median of fewer times.
        """
        times = list(self._times)
        while len(text := _packed(times)) > METADATA_BYTES_MAX:
            times = times[len(times) // 4 :]
        return text

    @classmethod
    def from_metadata(cls, retention_seconds: int, text: str) -> "StreamClock":
        """The clock that `to_metadata` wrote; a new one for any other text, which is another program's."""
        return cls(retention_seconds, _unpacked(text))


def _packed(times: Sequence[int]) -> str:
    steps = [ts - before for before, ts in zip((0, *times), times, strict=False)]
    data = zlib.compress(",".join(map(str, steps)).encode(), 9)
    return _FORM + base64.b85encode(data).decode()


def _unpacked(text: str) -> list[int]:
    if not text.startswith(_FORM):
        return []
    try:
        steps = zlib.decompress(base64.b85decode(text.removeprefix(_FORM))).decode()
        times = []
        now = 0
        for step in steps.split(",") if steps else ():
            now += int(step)
            times.append(now)
    except (ValueError, zlib.error, binascii.Error):
        return []
    return times
