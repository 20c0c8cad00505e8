"""Reading frames with the standard library alone, one at a time: the rules of docs/frames.md, written a second time.

It shares no code with the bucketer's parser, which is checked against it.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from unique_users.messages.frame import BadFrameError, CutLine, FrameFormat, Reason

_UID_BYTES_MAX = 256
_IN_A_ROW_BYTES_MAX = 1_048_576  # of a message whose values follow each other without line ends
_NOT_THERE = object()
_WHITESPACE = " \t\r\n"
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,18})?", re.ASCII)
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,]\d+)?)?"
    r"( ?(?:[Zz]|UTC|GMT)| ?[+-]\d\d(?::?\d\d)?(?: [A-Z]{1,5})?)?(?:\[[A-Za-z0-9_+/-]{1,40}\])?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = 253_402_300_799  # 9999-12-31T23:59:59Z


def frames_in(message: bytes, form: FrameFormat) -> Iterator[tuple[bytes, tuple[str, int] | BadFrameError]]:
    """Each frame in a message, with its user id and its event time in whole epoch seconds, or what is wrong with it.

    A frame is the message itself, or one of several in it: elements of an array, one per line, or one after the other.
    """
    if isinstance(message, CutLine):
        yield message, BadFrameError(Reason.TOO_LARGE, f"a line of {message.bytes_total} bytes")
        return
    if form.registry_framing == "json" and message[:1] == b"\0":
        message = message[5:]
    message = message.removeprefix(b"\xef\xbb\xbf")
    alone = _judged(message, form)
    several = None
    if isinstance(alone, BadFrameError) and alone.reason in {Reason.NOT_JSON, Reason.NOT_AN_OBJECT, Reason.TOO_LARGE}:
        several = _several(message.decode("utf-8", "surrogateescape").strip(_WHITESPACE), len(message))
    if several is None:
        yield message, alone
        return
    for text in several:
        frame = text.encode("utf-8", "surrogateescape")
        yield frame, _judged(frame, form)


def _judged(frame: bytes, form: FrameFormat) -> tuple[str, int] | BadFrameError:
    try:
        return _user_and_second(frame, form)
    except BadFrameError as error:
        return error


def _several(text: str, size: int) -> list[str] | None:
    if text.startswith("["):
        elements = _elements(text)
        if elements is not None:
            return elements or None
    lines = [line for line in (line.strip(_WHITESPACE) for line in text.split("\n")) if line]
    if len(lines) > 1 and _values(lines[0], at_most=1):
        return [found for line in lines for found in _on_line(line)]
    found = _values(text) if size <= _IN_A_ROW_BYTES_MAX else None
    return found if found and len(found) > 1 else None


def _on_line(line: str) -> Sequence[str]:
    found = _elements(line) if line.startswith("[") else _values(line)
    return [line] if found is None else found


def _elements(text: str) -> list[str] | None:
    """The elements of an array, as they are written; None if it is not JSON."""
    if not _values(text, at_most=1):
        return None
    found = []
    at = _after_whitespace(text, 1)
    while text[at] != "]":
        _, end = _decoder.raw_decode(text, at)
        found.append(text[at:end])
        at = _after_whitespace(text, end)
        if text[at] == ",":
            at = _after_whitespace(text, at + 1)
    return found


def _values(text: str, at_most: int | None = None) -> list[str] | None:
    """JSON values that follow each other; None if the text holds anything else."""
    found, at = [], 0
    while at < len(text):
        try:
            _, end = _decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return None
        found.append(text[at:end])
        at = _after_whitespace(text, end)
    return found if at_most is None or len(found) <= at_most else None


def _after_whitespace(text: str, at: int) -> int:
    while at < len(text) and text[at] in _WHITESPACE:
        at += 1
    return at


def _user_and_second(frame: bytes, form: FrameFormat) -> tuple[str, int]:
    if len(frame) > form.bytes_max:
        raise BadFrameError(Reason.TOO_LARGE, f"{len(frame)} bytes")
    try:
        root = _decoder.decode(frame.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise BadFrameError(Reason.NOT_JSON, str(error)) from None
    if not isinstance(root, dict):
        raise BadFrameError(Reason.NOT_AN_OBJECT, type(root).__name__)
    uid, ts = _look_up(root, form.uid), _look_up(root, form.ts)
    for value, reason in ((uid, Reason.NO_UID), (ts, Reason.NO_TS)):
        if value is _NOT_THERE:
            raise BadFrameError(reason, "not there")
    if any(isinstance(value, str) and re.search("[\ud800-\udfff]", value) for value in (uid, ts)):
        raise BadFrameError(Reason.NOT_JSON, "half of a surrogate pair, or not UTF-8")
    uid = _user(uid)
    second = _second(ts, form)
    first = max(0, int((datetime(*form.ts_min.timetuple()[:3], tzinfo=UTC) - _EPOCH).total_seconds()))
    if not first <= second <= _LAST:
        raise BadFrameError(Reason.BAD_TS, f"{ts!r:.80}: out of range")
    return uid, second


def _look_up(root: dict[str, Any], names: str | Sequence[str]) -> Any:
    found = []
    for name in [names] if isinstance(names, str) else names:
        if name in root:
            found.append(root[name])
        inner: Any = root
        for part in name.split("."):
            inner = inner[part] if isinstance(inner, dict) and part and part in inner else _NOT_THERE
        if inner is not _NOT_THERE and "." in name:
            found.append(inner)
    return next((value for value in found if value not in (None, "")), found[0] if found else _NOT_THERE)


def _user(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise BadFrameError(Reason.BAD_UID, f"{value!r:.80}")
    if not 0 < len(value.encode()) <= _UID_BYTES_MAX:
        raise BadFrameError(Reason.BAD_UID, f"{value!r:.80}: 1 to {_UID_BYTES_MAX} bytes are allowed")
    return value


def _second(value: object, form: FrameFormat) -> int:
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return _second_of_text(value, form)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BadFrameError(Reason.BAD_TS, f"{value!r:.80}")
    if isinstance(value, float) and not math.isfinite(value):
        raise BadFrameError(Reason.BAD_TS, f"{value!r:.80}")
    return math.floor(Fraction(value) / _PER_SECOND[form.ts_unit])


def _second_of_text(text: str, form: FrameFormat) -> int:
    match = _TIME.fullmatch(text)
    if not match:
        raise BadFrameError(Reason.BAD_TS, f"{text!r:.80}")
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    zone = match[7]
    if zone is None and form.timezone is None:
        raise BadFrameError(Reason.BAD_TS, f"{text!r:.80}: no zone")
    local = ZoneInfo(form.timezone or "UTC") if zone is None else UTC
    try:
        # A leap second is the last one of its minute; 61 stays 61, which no calendar has.
        time = datetime(year, month, day, hour, minute, 59 if second == 60 else second, tzinfo=local)  # noqa: PLR2004
        return (time - _EPOCH) // timedelta(seconds=1) - (_offset(zone) if zone else 0)
    except (ValueError, OverflowError):
        raise BadFrameError(Reason.BAD_TS, f"{text!r:.80}: no such time") from None


def _offset(zone: str) -> int:
    parts = re.fullmatch(r" ?([+-])(\d\d):?(\d\d)?( [A-Z]+)?", zone)
    if not parts:
        return 0
    hours, minutes = int(parts[2]), int(parts[3] or 0)
    if hours > 23 or minutes > 59:  # noqa: PLR2004
        raise ValueError(zone)
    return (hours * 3_600 + minutes * 60) * (-1 if parts[1] == "-" else 1)


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= 4_000 else math.inf  # noqa: PLR2004 - int() takes 4,300


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_decoder = json.JSONDecoder(parse_int=_integer, parse_constant=_refuse)
