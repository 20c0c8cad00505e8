"""The stream clock: the event time of one partition of `feed`, robust against single wrong times. Pure."""

import base64
import binascii
import zlib
from collections import deque
from collections.abc import Sequence

from unique_users.event_time.buckets import iso_time

BLOCK = 101  # accepted times that give one median
MEDIANS = 9  # the clock follows their median: five of them, so 505 times, have to agree before it moves
_FORM = "clock2:"
_FORMER = "clock1:"  # of version 0.1: the last 1,001 accepted times in arrival order
_NONE = -1


class StreamClock:
    """The highest value so far of the median of the last nine medians of 101 accepted event times, in epoch seconds.

    This is a remedian (Rousseeuw and Bassett, 1990): one wrong time, however far off, does not move it. It never goes
    back, and it starts judging once it has seen 101 times. A frame is late when its time is more than the allowed
    lateness behind the clock; with 0, none is. Only accepted times move it.
    """

    def __init__(self, allowed_lateness_seconds: int) -> None:
        self._allowed = allowed_lateness_seconds
        self._block: list[int] = []
        self._medians: deque[int] = deque(maxlen=MEDIANS)
        self._now: int | None = None
        self._watermark: int | None = None

    def now(self) -> int | None:
        """The clock's time, or None while it has seen too few times to judge."""
        return self._now

    def watermark(self) -> int | None:
        """No time before this one will be accepted any more. It never goes back; None while any may be accepted."""
        return self._watermark

    def lateness(self, ts: int) -> str:
        """Why a time is late, in words."""
        floor, now = (iso_time(time or 0) for time in (self._watermark, self._now))
        return f"{iso_time(ts)} is before {floor}, the earliest time that is still accepted; the stream is at {now}"

    def admit(self, times: Sequence[int]) -> list[int]:
        """Judge `times` one after the other, in arrival order, and return the indices of the late ones."""
        late: list[int] = []
        block = self._block
        start, count = 0, len(times)
        while start < count:
            chunk = times[start : start + BLOCK - len(block)]
            if self._watermark is None or min(chunk) >= self._watermark:
                block += chunk
                start += len(chunk)
            else:
                start = self._admit_singly(times, start, late)
            if len(block) == BLOCK:
                self._close_block()
        return late

    def _admit_singly(self, times: Sequence[int], start: int, late: list[int]) -> int:
        """Judge times from an index on until a block is full or all are judged. Returns the index reached."""
        floor = self._watermark or 0
        for index in range(start, len(times)):
            if times[index] < floor:
                late.append(index)
            else:
                self._block.append(times[index])
                if len(self._block) == BLOCK:
                    return index + 1
        return len(times)

    def _close_block(self) -> None:
        self._medians.append(_median(self._block))
        self._block.clear()
        now = _median(self._medians)
        if self._now is None or now > self._now:
            self._now = now
        self._raise_watermark()

    def _raise_watermark(self) -> None:
        if self._allowed and self._now is not None:
            self._watermark = max(self._now - self._allowed, self._watermark or 0)

    def to_metadata(self) -> str:
        """The clock as a string for an offset commit: about 1,000 characters at most, whatever the times are."""
        now, watermark = (_NONE if ts is None else ts for ts in (self._now, self._watermark))
        return _packed([now, watermark, len(self._medians), *self._medians, *sorted(self._block)])

    @classmethod
    def from_metadata(cls, allowed_lateness_seconds: int, text: str) -> "StreamClock":
        """The clock that `to_metadata` wrote; a new one for any other string, which is another program's.

        Promises are kept: if less lateness was allowed before, the watermark does not go back.
        """
        clock = cls(allowed_lateness_seconds)
        numbers = _unpacked(text)
        if text.startswith(_FORMER) and len(numbers) >= BLOCK:
            clock._block = numbers[-(len(numbers) % BLOCK) :] if len(numbers) % BLOCK else []
            clock._medians.extend(_median(numbers[at : at + BLOCK]) for at in range(0, len(numbers) - BLOCK + 1, BLOCK))
            clock._now = _median(numbers)  # as version 0.1 judged
        elif text.startswith(_FORMER):
            clock._block = numbers
        elif len(numbers) > 2 and len(numbers) <= 3 + MEDIANS + BLOCK:  # noqa: PLR2004
            now, watermark, medians, *rest = numbers
            clock._now = None if now == _NONE else now
            clock._watermark = None if watermark == _NONE else watermark
            clock._medians.extend(rest[:medians])
            clock._block = rest[medians:]
        clock._raise_watermark()
        return clock


def _median(times: Sequence[int]) -> int:
    return sorted(times)[(len(times) - 1) // 2]


def _packed(numbers: Sequence[int]) -> str:
    steps = [number - before for before, number in zip((0, *numbers), numbers, strict=False)]
    data = zlib.compress(",".join(map(str, steps)).encode(), 9)
    return _FORM + base64.b85encode(data).decode()


def _unpacked(text: str) -> list[int]:
    form, packed = text[: len(_FORM)], text[len(_FORM) :]
    if form not in {_FORM, _FORMER}:
        return []
    try:
        steps = zlib.decompress(base64.b85decode(packed)).decode()
        numbers = []
        now = 0
        for step in steps.split(",") if steps else ():
            now += int(step)
            numbers.append(now)
    except (ValueError, zlib.error, binascii.Error):
        return []
    return numbers
