"""Event times: the numbers and strings in frames become whole epoch seconds, rounded down. Pure.

A column of times that are all alike is converted at C speed; others are converted one by one. Both ways give the same
results, as a test makes sure.
"""

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from operator import itemgetter
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from msgspec import Meta

TS_MAX = 253_402_300_799  # 9999-12-31T23:59:59Z, the last time that datetime can hold
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}

_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_INT64_MAX = 2**63 - 1
_PLAUSIBLE = range(946_684_800, 4_102_444_800)  # 2000 to 2099: used to guess the right unit
_CACHED_MAX = 20_000  # times whose conversion is cached: 3 MB
_SHAPES_MAX = 32  # of the strings in a column
_SECOND_CHARACTERS = 19  # of "2024-05-20T10:14:00"

# ASCII only, on purpose: Python's int() and fromisoformat() accept more than any producer would intend.
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?[0-9]{1,20}\.[0-9]{1,18}", re.ASCII)
_ISO = re.compile(
    r"(?P<minute>[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:[.,][0-9]+)?)?"
    r"(?P<zone> ?(?:[Zz]|UTC|GMT)| ?[+-][0-9]{2}(?::?[0-9]{2})?(?: [A-Z]{1,5})?)?"
    r"(?:\[[A-Za-z0-9_+/-]{1,40}\])?",
    re.ASCII,
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_OFFSET = re.compile(r"([+-])([0-9]{2}):?([0-9]{2})?", re.ASCII)
_DIGITS_AS_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_to_the_second: Callable[[str], str] = itemgetter(slice(0, _SECOND_CHARACTERS))


class EventTimes:
    """Converts the times of frames. Numbers are in `unit`, and so are strings that hold a number.

    Strings without a zone are taken to be in `timezone`; if that is None, they are refused. When clocks are turned
    back, the earlier of the two possible times is taken. A time that clocks skip counts as if they had not changed yet.
    Second 60 counts as second 59 of its minute. Times before `earliest`, in epoch seconds, are refused.
    """

    def __init__(self, unit: str = "s", timezone: str | None = None, earliest: int = 0) -> None:
        self._unit = unit
        self._per_second = UNITS[unit]
        self._has_timezone = timezone is not None
        self._earliest = earliest
        self._utc = _Seconds(UTC)
        self._local = _Seconds(ZoneInfo(timezone or "UTC"))
        self._shapes: dict[bytes, int | None] = {}  # the length of the zone at the end; None if it is not that simple

    def usual_type(self) -> Any:
        """The msgspec type of values that need no closer look: numbers within range, never 0, or any string."""
        lowest = max(1, self._earliest * self._per_second)
        highest = min((TS_MAX + 1) * self._per_second - 1, _INT64_MAX)
        number = Annotated[int, Meta(ge=lowest, le=highest)]
        return number | Annotated[float, Meta(ge=float(lowest), lt=float(highest))] | str

    def column(self, values: Sequence[Any]) -> list[int] | None:
        """All of `values`, which are of `usual_type`, in seconds; None if they have to be converted one by one."""
        types = set(map(type, values))
        if types == {int}:
            if self._per_second == 1:
                return values if isinstance(values, list) else list(values)
            per_second = self._per_second
            return [value // per_second for value in values]
        if types <= {int, float}:
            per_second = self._per_second
            return [value // per_second for value in map(math.floor, values)]
        if types == {str}:
            return self._texts(values)
        return None

    def seconds(self, value: object) -> int:
        """Convert one value. Raises ValueError; its message continues after the name of the field."""
        if isinstance(value, str):
            found = self._of_text(value)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"is {kind(value)}, expected a time")  # noqa: TRY004 - a wrong value, not a wrong call
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError("is not a finite number")
        else:
            found = math.floor(value) // self._per_second
        if not self._earliest <= found <= TS_MAX:
            raise ValueError(self._out_of_range(value, found))
        return found

    def _of_text(self, text: str) -> int:
        if _INTEGER.fullmatch(text):
            return int(text) // self._per_second
        if _DECIMAL.fullmatch(text):
            return math.floor(Decimal(text)) // self._per_second
        match = _ISO.fullmatch(text)
        if not match:
            raise ValueError(f"is {text!r:.60}, which is {_what_is_missing(text)}")
        zone = match["zone"]
        if zone is None and not self._has_timezone:
            raise ValueError(f"is {text!r:.60}, which has no zone: set frame.timezone to say which one is meant")
        second = f"{match['minute']}:{match['second'] or '00'}"
        try:
            return self._local[second] if zone is None else self._utc[second] - _offset_seconds(zone)
        except (ValueError, OverflowError):
            raise ValueError(f"is {text!r:.60}, which is not a valid date and time") from None

    def _texts(self, texts: Sequence[str]) -> list[int] | None:
        lines = "\n".join(texts) + "\n"
        zeroed = lines.encode(errors="replace").translate(_DIGITS_AS_ZEROS)
        first = zeroed[: zeroed.index(b"\n") + 1]
        alike = zeroed == first * len(texts)
        pieces = [first[:-1]] if alike else zeroed.split(b"\n")[:-1]
        shapes = set(pieces)
        if not alike and (len(pieces) != len(texts) or len(shapes) > _SHAPES_MAX):
            return None  # one of them has a line end inside, or they are too different to be worth it
        if all(shape.isdigit() and len(shape) <= _SECOND_CHARACTERS for shape in shapes):
            return self.within([value // self._per_second for value in map(int, texts)])
        zone_lengths = {self._zone_length(shape) for shape in shapes}
        zone_length = zone_lengths.pop()
        if zone_lengths or zone_length is None:
            return None
        zone = texts[0][-zone_length:] if zone_length else ""
        if zone and lines.count(zone + "\n") != len(texts):
            return None
        try:
            seconds = self._utc if zone else self._local
            found = list(map(seconds.__getitem__, map(_to_the_second, texts)))
            offset = _offset_seconds(zone)
        except (ValueError, OverflowError):
            return None
        return self.within([second - offset for second in found] if offset else found)

    def from_ms(self, time_ms: int) -> int:
        """A time in milliseconds, in the unit of numbers, rounded down."""
        return time_ms * self._per_second // 1_000

    def within(self, seconds: list[int]) -> list[int] | None:
        """`seconds`, if all of them are within range."""
        return seconds if self._earliest <= min(seconds) and max(seconds) <= TS_MAX else None

    def _zone_length(self, shape: bytes) -> int | None:
        """The length of the zone at the end of strings of this shape: 0 for the configured one, None if unclear."""
        if shape not in self._shapes:
            if len(self._shapes) >= _CACHED_MAX:
                self._shapes.clear()
            match = _ISO.fullmatch(shape.decode(errors="replace"))
            if not match or not match["second"] or shape.endswith(b"]") or not (match["zone"] or self._has_timezone):
                self._shapes[shape] = None
            else:
                self._shapes[shape] = len(match["zone"] or "")
        return self._shapes[shape]

    def _out_of_range(self, value: object, seconds: int) -> str:
        shown, is_iso = f"{value!r:.60}", isinstance(value, str) and _ISO.fullmatch(value)
        if not is_iso:
            number = seconds * self._per_second
            for unit, per_second in UNITS.items():
                if unit != self._unit and number // per_second in _PLAUSIBLE:
                    return f"is {shown}, which looks like {_UNIT_NAMES[unit]}: set frame.ts_unit: {unit}"
            shown += f" {_UNIT_NAMES[self._unit]}"
        if 0 <= seconds < self._earliest:
            day = datetime.fromtimestamp(self._earliest, UTC).date()
            return f"is {shown}, which is before {day}: lower frame.ts_min if times that old are meant"
        return f"is {shown}, which is outside the years 1970 to 9999"


class _Seconds(dict[str, int]):
    """The epoch seconds of times like "2024-05-20T10:14:00" in a zone, cached. Raises ValueError."""

    def __init__(self, zone: tzinfo) -> None:
        super().__init__()
        self._zone = zone
        self._minutes: dict[str, int] = {}

    def __missing__(self, text: str) -> int:
        second = int(text[17:19])
        if second > 60:  # noqa: PLR2004 - 60 is a leap second
            raise ValueError(text)
        seconds = self._minute(text[:16]) + min(second, 59)
        if len(self) >= _CACHED_MAX:
            self.clear()
        self[text] = seconds
        return seconds

    def _minute(self, text: str) -> int:
        if text not in self._minutes:
            year, month, day, hour, minute = map(int, (text[:4], text[5:7], text[8:10], text[11:13], text[14:16]))
            since = datetime(year, month, day, hour, minute, tzinfo=self._zone) - _EPOCH
            if len(self._minutes) >= _CACHED_MAX:
                self._minutes.clear()
            self._minutes[text] = since // timedelta(seconds=1)
        return self._minutes[text]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _offset_seconds(zone: str) -> int:
    match = _OFFSET.search(zone)
    if not match:
        return 0
    sign, hours, minutes = match[1], int(match[2]), int(match[3] or 0)
    if hours > 23 or minutes > 59:  # noqa: PLR2004
        raise ValueError(zone)
    return (-1 if sign == "-" else 1) * (hours * 3_600 + minutes * 60)


def _what_is_missing(text: str) -> str:
    return "a day without a time of day" if _DATE.fullmatch(text) else "neither epoch time nor ISO 8601"


_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a floating-point number",
}


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    if isinstance(value, dict) and value:
        return f"an object with {', '.join(f'{name!r:.40}' for name in list(value)[:3])}"
    return _KINDS.get(type(value), "null")
