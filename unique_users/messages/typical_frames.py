"""Typical frames: their user ids and times are decoded and checked as columns, at a fraction of the cost. Pure."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import msgspec

from unique_users.messages import user_ids
from unique_users.messages.event_times import EventTimes
from unique_users.messages.fields import RECORD_KEY, RECORD_TIME, Field, Getters, RecordColumns, struct_of

SLICE_FRAMES = (
    250  # decoded in one go: half a millisecond in which no other thread runs, such as one that serves metrics
)
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
Columns = tuple[list[str], list[int], Sequence[int]]  # user ids, epoch seconds, indices of the messages


class TypicalFrames:
    """Decodes messages that hold one frame of the usual form. Whatever is not typical is left out, not judged."""

    def __init__(self, uid: Field, ts: Field, times: EventTimes) -> None:
        self._uid, self._ts = uid, ts
        self._times = times
        # A user id with one path is decoded as a short string until one comes that is not: that is the cheapest.
        self._short_strings = len(uid.paths) == 1 and uid.names != (RECORD_KEY,)
        self._expect(user_ids.SHORT_STRING if self._short_strings else user_ids.STRING_OR_INTEGER)

    def _expect(self, uid_type: Any) -> None:
        struct, getters = struct_of([(self._uid, uid_type), (self._ts, self._times.usual_type())])
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(struct).decode
        self._uid_getters, self._ts_getters = getters

    def note_untypical(self) -> None:
        """Decode all kinds of user ids from now on, because a valid frame was left out."""
        if self._short_strings:
            self._short_strings = False
            self._expect(user_ids.STRING_OR_INTEGER)

    def columns(self, texts: Sequence[bytes], records: RecordColumns) -> Columns:
        """The typical frames among `texts`, in order."""
        frames: list[Any] = []
        failed = False
        rest = iter(texts)
        while len(frames) < len(texts):
            try:
                # What was decoded before an error stays in the list.
                frames.extend(map(self._decode, islice(rest, SLICE_FRAMES)))
            except _DECODE_ERRORS:
                frames.append(None)
                failed = True
        places: Sequence[int] = range(len(frames))
        if failed:
            places = [place for place in places if frames[place] is not None]
            frames = [frames[place] for place in places]
        if not frames:
            return [], [], []
        uids = self._values(self._uid, self._uid_getters, frames, places, records)
        times = self._values(self._ts, self._ts_getters, frames, places, records)
        checked = self._checked(uids, times)
        return (*checked, places) if checked else self._mixed(uids, times, places)

    def _values(
        self, field: Field, getters: Getters, frames: list[Any], places: Sequence[int], records: RecordColumns
    ) -> list[Any]:
        """The values of `field`; a falsy one is missing or not typical."""
        columns = []
        for path in field.paths:
            if path[0] in {RECORD_KEY, RECORD_TIME}:
                values = [records.value(path[0], place, self._times) for place in places]
                columns.append([None if user_ids.is_broken(value) else value for value in values])
            elif path in getters:
                columns.append(getters[path](frames))
        values = columns[0]
        for column in columns[1:]:
            values = [value or other for value, other in zip(values, column, strict=True)]
        return values

    def _checked(self, uid_values: list[Any], ts_values: list[Any]) -> tuple[list[str], list[int]] | None:
        """All the values as user ids and times; None if some need a closer look."""
        uids = uid_values if self._short_strings else user_ids.column(uid_values)
        times = self._times.column(ts_values)
        if times and RECORD_TIME in self._ts.names:
            times = self._times.within(times)
        return (uids, times) if uids and times else None

    def _mixed(self, uid_values: list[Any], ts_values: list[Any], places: Sequence[int]) -> Columns:
        """Values that are not all of the same types: those of equal types together, and the rest one by one."""
        alike: defaultdict[tuple[type, type], list[int]] = defaultdict(list)
        for index, types in enumerate(zip(map(type, uid_values), map(type, ts_values), strict=True)):
            alike[types].append(index)
        found: list[tuple[str, int] | None] = [None] * len(places)
        for indices in alike.values():
            uids, times = [uid_values[index] for index in indices], [ts_values[index] for index in indices]
            checked = self._checked(uids, times)
            frames = zip(*checked, strict=True) if checked else map(self._frame, uids, times)
            for index, frame in zip(indices, frames, strict=True):
                found[index] = frame
        valid = [(place, frame) for place, frame in zip(places, found, strict=True) if frame]
        return [uid for _, (uid, _) in valid], [ts for _, (_, ts) in valid], [place for place, _ in valid]

    def _frame(self, uid: object, ts: object) -> tuple[str, int] | None:
        try:
            return user_ids.user_id(uid), self._times.seconds(ts)
        except ValueError:
            return None
