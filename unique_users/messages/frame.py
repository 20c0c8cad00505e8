"""A frame: one JSON object with a user id and an event time at its root. Pure.

Only those two values are decoded. The rest is skipped: its structure is checked, but not the contents of strings. A
broken character in a skipped string does not make a frame invalid.
"""

import math
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, NoReturn, Self

import msgspec

UID_BYTES_MAX = 256
TS_MAX = 253_402_300_799  # 9999-12-31T23:59:59Z, the last time that calendars here can print


# Needs no closer look: a string this short has at most UID_BYTES_MAX bytes, whatever its characters.
_ShortText = Annotated[str, msgspec.Meta(min_length=1, max_length=UID_BYTES_MAX // 4)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=TS_MAX)]


class Reason(StrEnum):
    """Why a frame is invalid or not counted. The list is closed: every rejected record has one of these."""

    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    NO_UID = "no_uid"
    BAD_UID = "bad_uid"
    NO_TS = "no_ts"
    BAD_TS = "bad_ts"
    LATE = "late"
    FUTURE = "future"
    TOO_LARGE = "too_large"


class CutLine(bytes):
    """The first bytes of a line that is too long to keep; `bytes_total` is the length of the line."""

    bytes_total: int

    def __new__(cls, value: bytes, bytes_total: int) -> Self:
        line = super().__new__(cls, value)
        line.bytes_total = bytes_total
        return line


class BadFrameError(Exception):
    """The frame is invalid, for `reason`; `detail` is for people, 200 characters at most."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail[:200]


class Parsed(NamedTuple):
    """What a batch of frames holds: columns of equal length for the valid ones, whose indices are `places`."""

    uids: list[str]
    times: list[int]  # epoch seconds
    places: Sequence[int]
    refused: list[tuple[int, BadFrameError]]  # the indices of the others, and why


class FrameParser:
    """Finds the user id and the event time in a frame's bytes.

    `uid` and `ts` are looked up at the root of the object, in any order; the last of two equal keys wins.
    """

    def __init__(self, uid: str = "uid", ts: str = "ts", ts_unit: str = "s", bytes_max: int = 1_048_576) -> None:
        self._uid_field = uid
        self._ts_field = ts
        self._per_second = {"s": 1, "ms": 1000}[ts_unit]
        self._bytes_max = bytes_max
        names = {"uid": uid, "ts": ts}
        shape = msgspec.defstruct(
            "Frame",
            [("uid", str), ("ts", int | float | str)],
            rename=names,
            gc=False,
        )
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(shape).decode
        usual = msgspec.defstruct(
            "UsualFrame", [("uid", _ShortText), ("ts", _Time | float | str)], rename=names, gc=False
        )
        self._decode_usual: Callable[[bytes], Any] = msgspec.json.Decoder(usual).decode
        loose = msgspec.defstruct("LooseFrame", [("uid", Any, msgspec.UNSET), ("ts", Any, msgspec.UNSET)], rename=names)
        self._decode_loosely: Callable[[bytes], Any] = msgspec.json.Decoder(loose).decode
        self._decode_any = msgspec.json.Decoder().decode

    def parse(self, raw: bytes) -> tuple[str, int]:
        """Return the user id and the event time in whole epoch seconds, rounded down.

        Raises BadFrameError.
        """
        if len(raw) > self._bytes_max:
            raise BadFrameError(Reason.TOO_LARGE, f"{len(raw)} bytes, at most {self._bytes_max} are taken")
        try:
            frame = self._decode(raw)
            uid, ts = frame.uid, frame.ts
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # Not a valid value, or not yet: the last of two equal keys may still be right.
            uid, ts = self._look_closer(raw)
        if not 0 < len(uid) <= UID_BYTES_MAX or (not uid.isascii() and len(uid.encode()) > UID_BYTES_MAX):
            raise BadFrameError(Reason.BAD_UID, f"{len(uid)} characters, expected 1 to {UID_BYTES_MAX} bytes")
        if type(ts) is not int or self._per_second != 1:
            ts = self._seconds(ts)
        if not 0 <= ts <= TS_MAX:
            raise BadFrameError(Reason.BAD_TS, f"{ts!r:.60} lies outside the years 1970 to 9999")
        return uid, ts

    def parse_all(self, raws: Sequence[bytes | None]) -> Parsed:
        """`parse` for many frames, at a fraction of its cost for typical frames. A null value is rejected."""
        texts: Sequence[bytes] = raws  # type: ignore[assignment]
        try:
            longest = max(map(len, texts), default=0)
        except TypeError:
            texts = [raw or b"" for raw in raws]
            longest = max(map(len, texts))
        if longest > self._bytes_max:
            return _sorted_out([self._parsed(text) for text in texts])
        frames: list[Any] = []
        unusual = False
        rest = iter(texts)
        while len(frames) < len(texts):
            try:
                # What was decoded before an error stays in the list.
                frames.extend(map(self._decode_usual, rest))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                frames.append(None)
                unusual = True
        if unusual or self._per_second != 1 or set(map(type, times := [frame.ts for frame in frames])) - {int}:
            return _sorted_out([self._checked(frame, text) for frame, text in zip(frames, texts, strict=True)])
        return Parsed([frame.uid for frame in frames], times, range(len(frames)), [])

    def _checked(self, frame: Any, text: bytes) -> tuple[str, int] | BadFrameError:
        if frame is not None and type(frame.ts) is int and self._per_second == 1:
            return frame.uid, frame.ts
        return self._parsed(text)

    def _parsed(self, text: bytes) -> tuple[str, int] | BadFrameError:
        try:
            return self.parse(text)
        except BadFrameError as error:
            # A new error: the traceback of this one would keep the frame, and the batch, until garbage collection.
            return BadFrameError(error.reason, error.detail)

    def _look_closer(self, raw: bytes) -> tuple[str, Any]:
        """Return the values of a frame that the fast path refused, or raise what is wrong."""
        try:
            frame = self._decode_loosely(raw)
        except msgspec.ValidationError:
            root = self._any_root(raw)
            raise BadFrameError(Reason.NOT_AN_OBJECT, f"the root is {_kind(root)}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _not_json(error) from None
        uid, ts = frame.uid, frame.ts
        if uid is msgspec.UNSET:
            raise BadFrameError(Reason.NO_UID, f"no {self._uid_field!r} at the root")
        if ts is msgspec.UNSET:
            raise BadFrameError(Reason.NO_TS, f"no {self._ts_field!r} at the root")
        if not isinstance(uid, str):
            raise BadFrameError(Reason.BAD_UID, f"{self._uid_field!r} is {_kind(uid)}, expected a string")
        if isinstance(ts, bool) or not isinstance(ts, int | float | str):
            raise BadFrameError(Reason.BAD_TS, f"{self._ts_field!r} is {_kind(ts)}, expected a time")
        return uid, ts

    def _any_root(self, raw: bytes) -> object:
        try:
            return self._decode_any(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _not_json(error) from None

    def _seconds(self, ts: float | str) -> int:
        if isinstance(ts, str):
            ts = self._number_of(ts)
        if isinstance(ts, float) and not math.isfinite(ts):
            _refuse_time(ts)
        return int(ts // self._per_second)

    def _number_of(self, text: str) -> float:
        """Return the time in `text` in the configured unit."""
        if _INTEGER.fullmatch(text):
            return int(text)
        if _DECIMAL.fullmatch(text):
            return float(text)
        if not _ISO_TIME.fullmatch(text):
            _refuse_time(text)
        try:
            time = datetime.fromisoformat(text.upper())
        except ValueError:
            _refuse_time(text)
        if time.tzinfo is None:
            raise BadFrameError(Reason.BAD_TS, f"{text!r} has no zone: write an offset or Z")
        return (time - _EPOCH) // _SECOND * self._per_second


def _sorted_out(found: Sequence[tuple[str, int] | BadFrameError]) -> Parsed:
    parsed = Parsed([], [], places := [], [])
    for place, what in enumerate(found):
        if isinstance(what, BadFrameError):
            parsed.refused.append((place, what))
        else:
            parsed.uids.append(what[0])
            parsed.times.append(what[1])
            places.append(place)
    return parsed


# ASCII only, on purpose: Python's int() and fromisoformat() accept more than any producer means.
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?[0-9]{1,18}\.[0-9]{1,18}", re.ASCII)
_ISO_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)?",
    re.ASCII,
)
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00Z")
_SECOND = datetime.resolution * 1_000_000
_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
}


def _not_json(error: Exception) -> BadFrameError:
    detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    return BadFrameError(Reason.NOT_JSON, detail)


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "null")


def _refuse_time(value: object) -> NoReturn:
    raise BadFrameError(Reason.BAD_TS, f"{value!r:.80} is neither epoch seconds nor ISO 8601 with a zone") from None
