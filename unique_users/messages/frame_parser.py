"""Parsing frames in batches. Pure.

Only the user id and the event time are decoded. The rest is skipped: its structure is checked, but not what its strings
contain. A broken character in a skipped string does not make a frame invalid.
"""

import calendar
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from unique_users.messages import user_ids
from unique_users.messages.elements import elements_of
from unique_users.messages.event_times import EventTimes, kind
from unique_users.messages.fields import RECORD_KEY, RECORD_TIME, Field, RecordColumns
from unique_users.messages.frame import BadFrameError, FrameFormat, Reason
from unique_users.messages.lenient_json import DECODER, text_of
from unique_users.messages.typical_frames import TypicalFrames

_BOM = b"\xef\xbb\xbf"
_FRAMING_MAGIC, _FRAMING_BYTES = b"\0", 5  # of the Schema Registry: a zero byte and the id of a schema
_REASONS_OF_SEVERAL = (Reason.NOT_JSON, Reason.NOT_AN_OBJECT, Reason.TOO_LARGE)  # for a message with several frames


class Element(NamedTuple):
    """A frame among several in one message."""

    number: int  # starting at 0
    value: bytes


class Refused(NamedTuple):
    """A frame that is invalid."""

    place: int  # the index of its message in the batch
    error: BadFrameError
    element: Element | None = None


class Parsed(NamedTuple):
    """What a batch of messages holds: columns of equal length for the valid frames, and the refused ones."""

    uids: list[str]
    times: list[int]  # epoch seconds
    places: Sequence[int]  # the indices of their messages
    refused: list[Refused]
    elements: Mapping[int, Element] = MappingProxyType({})  # by index in the columns, where a message holds several


_Row = tuple[int, str, int, Element | None]  # of a valid frame: place, user id, time, element
_NOTHING = RecordColumns()


class FrameParser:
    """Finds the user id and the event time in frames, where `FrameFormat` says. The last of two equal keys wins.

    Typical frames are decoded and checked as columns. What does not fit is looked at one by one, by the same rules.
    Raises ValueError if the user id and the time are the same field.
    """

    def __init__(self, form: FrameFormat | None = None) -> None:
        form = form or FrameFormat()
        earliest = max(0, calendar.timegm(form.ts_min.timetuple()))
        self._form = form
        self._uid, self._ts = Field(form.uid), Field(form.ts)
        self._times = EventTimes(form.ts_unit, form.timezone, earliest)
        self._typical = TypicalFrames(self._uid, self._ts, self._times)

    def parse_all(self, raws: Sequence[bytes | None], records: RecordColumns = _NOTHING) -> Parsed:
        """Judge every frame in a batch of messages. `records` is only needed for names of the record."""
        uids, times, places = self._typical.columns(self._decodable(raws), records)
        if len(places) == len(raws):
            return Parsed(uids, times, places, [])
        valid: list[_Row] = []
        refused: list[Refused] = []
        for place in sorted(set(range(len(raws))).difference(places)):
            for found in self._frames_in(raws[place], place, records):
                if isinstance(found, Refused):
                    refused.append(found)
                else:
                    valid.append(found)
        if not valid:
            return Parsed(uids, times, places, refused)
        rows = sorted([*zip(places, uids, times, repeat(None), strict=False), *valid], key=itemgetter(0))
        elements = {index: element for index, (*_, element) in enumerate(rows) if element}
        return Parsed([row[1] for row in rows], [row[2] for row in rows], [row[0] for row in rows], refused, elements)

    def _decodable(self, raws: Sequence[bytes | None]) -> Sequence[bytes]:
        """The messages to decode, with an empty one in place of each that has to be looked at on its own."""
        if self._form.registry_framing != "none":
            raws = [raw and self._unframed(raw) for raw in raws]
        try:
            longest = max(map(len, raws), default=0)  # type: ignore[arg-type]
        except TypeError:  # a null value
            longest = self._form.bytes_max + 1
        if longest <= self._form.bytes_max:
            return raws  # type: ignore[return-value]
        return [raw if raw and len(raw) <= self._form.bytes_max else b"" for raw in raws]

    def _unframed(self, raw: bytes) -> bytes:
        framed = self._form.registry_framing != "none" and raw[:1] == _FRAMING_MAGIC
        return raw[_FRAMING_BYTES:] if framed else raw

    def _frames_in(self, raw: bytes | None, place: int, records: RecordColumns) -> Iterator[_Row | Refused]:
        """Look closer at one message: the frame in it, or the frames, if it holds several."""
        if raw is None:
            yield Refused(place, BadFrameError(Reason.TOMBSTONE, "the record has a null value"))
            return
        text = self._unframed(raw).removeprefix(_BOM)
        found = self._judged(text, place, records)
        if not isinstance(found, BadFrameError):
            self._typical.note_untypical()
            yield place, *found, None
            return
        several = elements_of(text) if found.reason in _REASONS_OF_SEVERAL else None
        if several is None:
            yield Refused(place, found)
            return
        same = records.of_all_in(place, len(several))
        uids, times, numbers = self._typical.columns(
            [value if len(value) <= self._form.bytes_max else b"" for value in several], same
        )
        typical = dict(zip(numbers, zip(uids, times, strict=True), strict=True))
        for number, value in enumerate(several):
            element, frame = Element(number, value), typical.get(number) or self._judged(value, number, same)
            if isinstance(frame, BadFrameError):
                yield Refused(place, frame, element)
            else:
                yield place, *frame, element

    def _judged(self, text: bytes, place: int, records: RecordColumns) -> tuple[str, int] | BadFrameError:
        try:
            return self._frame(text, place, records)
        except BadFrameError as error:
            # A new error: the traceback of this one would keep the batch until garbage collection.
            return BadFrameError(error.reason, error.detail)

    def _frame(self, text: bytes, place: int, records: RecordColumns) -> tuple[str, int]:
        """The user id and the time of one frame, whatever it looks like. Raises BadFrameError."""
        if len(text) > self._form.bytes_max:
            raise BadFrameError(Reason.TOO_LARGE, f"{len(text)} bytes, at most {self._form.bytes_max} are allowed")
        root = _root(text)
        if not isinstance(root, dict):
            raise BadFrameError(Reason.NOT_AN_OBJECT, f"the root is {kind(root) if root != [] else 'an empty list'}")
        record = {name: records.value(name, place, self._times) for name in (RECORD_KEY, RECORD_TIME)}
        uid, ts = self._uid.find(root, record), self._ts.find(root, record)
        if uid is msgspec.UNSET:
            raise BadFrameError(Reason.NO_UID, self._uid.missing())
        if ts is msgspec.UNSET:
            raise BadFrameError(Reason.NO_TS, self._ts.missing())
        if uid is record[RECORD_KEY] and user_ids.is_broken(uid):
            raise BadFrameError(Reason.BAD_UID, "the key of the record is not UTF-8")
        if user_ids.is_broken(uid) or user_ids.is_broken(ts):
            raise BadFrameError(
                Reason.NOT_JSON, "the user id or the time is not UTF-8, or holds half of a surrogate pair"
            )
        try:
            uid = user_ids.user_id(uid)
        except ValueError as error:
            raise BadFrameError(Reason.BAD_UID, f"{self._uid} {error}{_inside('uid', self._uid, uid)}") from None
        try:
            return uid, self._times.seconds(ts)
        except ValueError as error:
            raise BadFrameError(Reason.BAD_TS, f"{self._ts} {error}{_inside('ts', self._ts, ts)}") from None


def _inside(setting: str, field: Field, value: object) -> str:
    """The setting to suggest if a value is an object."""
    if not isinstance(value, dict) or not value or len(field.names) > 1:
        return ""
    return f": set frame.{setting}: {field.names[0]}.{next(iter(value)):.40} if that is the one you mean"


def _root(text: bytes) -> object:
    """The JSON value in `text`; broken characters become lone surrogates. Raises BadFrameError."""
    try:
        return DECODER.decode(text_of(text))
    except RecursionError:
        raise BadFrameError(Reason.NOT_JSON, "nested too deeply") from None
    except ValueError as error:
        raise BadFrameError(Reason.NOT_JSON, _why_no_json(text, error)) from None


def _why_no_json(text: bytes, error: ValueError) -> str:
    if text[:1] == _FRAMING_MAGIC and text[_FRAMING_BYTES : _FRAMING_BYTES + 1] in {b"{", b"["}:
        return "begins with the five bytes of a Schema Registry: set frame.registry_framing: json"
    return str(error)
