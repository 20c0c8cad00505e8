"""A frame: one JSON object with a user id and an event time; and what can be wrong with it. Pure."""

from collections.abc import Sequence
from datetime import date
from enum import StrEnum
from typing import NamedTuple, Self


class Reason(StrEnum):
    """Why a frame is invalid or not counted. The list is closed: every rejected record has one of these."""

    TOMBSTONE = "tombstone"
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


class FrameFormat(NamedTuple):
    """Where and in which form frames hold their user and their time; the section `frame` of the configuration."""

    uid: str | Sequence[str] = "uid"
    ts: str | Sequence[str] = "ts"
    ts_unit: str = "s"
    ts_min: date = date(1970, 1, 1)  # UTC
    timezone: str | None = None  # for times without one
    registry_framing: str = "none"  # or json
    bytes_max: int = 1_048_576
