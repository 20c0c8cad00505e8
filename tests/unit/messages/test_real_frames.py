"""Frames in the shapes of real sources: parser and recount hold what the table says, alone and among others."""

from collections.abc import Sequence

import pytest
from real_frames import REAL_FRAMES, RealFrame, T
from repository import ROOT

from unique_users.messages.fields import RecordColumns
from unique_users.messages.frame import BadFrameError, FrameFormat, Reason
from unique_users.messages.frame_parser import FrameParser, Parsed
from unique_users.queries.plain_frames import frames_in

CASES = ROOT / "tests" / "data" / "cases"


def in_order(parsed: Parsed) -> list[tuple[str, int] | Reason]:
    """The frames of one message in the order in which they stand there."""
    numbers = {index: element.number for index, element in parsed.elements.items()}
    found: list[tuple[int, tuple[str, int] | Reason]] = [
        (numbers.get(index, 0), frame) for index, frame in enumerate(zip(parsed.uids, parsed.times, strict=True))
    ]
    found += [(each.element.number if each.element else 0, each.error.reason) for each in parsed.refused]
    return [frame for _, frame in sorted(found, key=lambda each: each[0])]


def by_the_recount(message: bytes, form: FrameFormat) -> list[tuple[str, int] | Reason]:
    return [found.reason if isinstance(found, BadFrameError) else found for _, found in frames_in(message, form)]


@pytest.mark.parametrize("case", REAL_FRAMES, ids=lambda case: case.source)
def test_a_message_holds_what_the_table_says(case: RealFrame) -> None:
    parser = FrameParser(case.form)
    assert in_order(parser.parse_all([case.message])) == list(case.expected)
    assert in_order(parser.parse_all([case.message])) == list(case.expected)  # now that it knows the form
    assert by_the_recount(case.message, case.form) == list(case.expected)


def test_the_table_has_more_than_a_hundred_sources_each_once() -> None:
    assert len({case.source for case in REAL_FRAMES}) == len(REAL_FRAMES) > 100


@pytest.mark.parametrize(
    ("message", "form", "hint"),
    [
        (b'{"uid":"u","ts":1716200041007}', {}, "1716200041007, which looks like milliseconds: set frame.ts_unit: ms"),
        (b'{"uid":"u","ts":"1716200041007"}', {}, "looks like milliseconds: set frame.ts_unit: ms"),
        (b'{"uid":"u","ts":1716200041007.5}', {}, "looks like milliseconds: set frame.ts_unit: ms"),
        (b'{"uid":"u","ts":1716200041007000}', {}, "looks like microseconds: set frame.ts_unit: us"),
        (b'{"uid":"u","ts":1716200041007000000}', {}, "looks like nanoseconds: set frame.ts_unit: ns"),
        (b'{"uid":"u","ts":1716200041}', {"ts_unit": "ms"}, "looks like seconds: set frame.ts_unit: s"),
        (b'{"uid":"u","ts":1716200041007}', {"ts_unit": "ns"}, "looks like milliseconds: set frame.ts_unit: ms"),
        (b'{"uid":"u","ts":5}', {}, "before 2000-01-01: lower frame.ts_min"),
        (b'{"uid":"u","ts":"1999-12-31T23:59:59Z"}', {}, "before 2000-01-01: lower frame.ts_min"),
        (b'{"uid":"u","ts":"2024-05-20 10:14:00"}', {}, "no zone: set frame.timezone"),
        (b'{"uid":"u","ts":"2024-05-20"}', {}, "without a time of day"),
        (b'{"uid":"u","ts":{"$date":5}}', {}, "frame.ts: ts.$date"),
        (b'{"uid":{"id":5},"ts":5}', {}, "frame.uid: uid.id"),
        (b'\0\0\0\0\1{"uid":"u","ts":1716200041}', {}, "frame.registry_framing: json"),
        (b'{"uid":"u"}', {"uid": "user.id"}, "no 'user.id'"),
        (b'{"x":"u"}', {"uid": ["a", "b"]}, "no 'a' or 'b'"),
    ],
)  # fmt: skip
def test_what_is_refused_names_the_setting_that_would_fit(message: bytes, form: dict[str, str], hint: str) -> None:
    refused = FrameParser(FrameFormat(**{"ts_min": REAL_FRAMES[0].form.ts_min, **form})).parse_all([message]).refused  # type: ignore[arg-type]
    assert hint in refused[0].error.detail


def test_a_key_and_a_time_may_come_from_the_record() -> None:
    parser = FrameParser(FrameFormat(uid="$key", ts="$timestamp"))
    parsed = parser.parse_all([b"{}", b"{}", b"{}", b"{}", b"[{},{}]"], _records())
    assert list(zip(parsed.uids, parsed.times, parsed.places, strict=True)) == [("k", T, 0), ("z", T, 4), ("z", T, 4)]
    assert [(each.place, each.error.reason) for each in parsed.refused] == [
        (1, Reason.NO_UID),
        (2, Reason.NO_TS),
        (3, Reason.BAD_UID),
    ]


def test_a_field_may_fall_back_on_the_record() -> None:
    parser = FrameParser(FrameFormat(uid=["uid", "$key"], ts=["at", "$timestamp"], ts_unit="ms"))
    parsed = parser.parse_all([b'{"uid":"own"}', b'{"uid":"","at":1716200041000}'], _records(b"key", b"other"))
    assert list(zip(parsed.uids, parsed.times, strict=True)) == [("own", T), ("other", T + 1)]


def _records(*keys: bytes | None) -> RecordColumns:
    if keys:
        return RecordColumns(keys, [T * 1000 + 7] * len(keys))
    return RecordColumns([b"k", None, b"x", b"\xff", b"z"], [T * 1000 + 999, T * 1000, -1, T * 1000, T * 1000])


def lines_of(name: str) -> Sequence[bytes]:
    return [line for line in (CASES / name).read_bytes().split(b"\n") if line]


def test_what_a_dead_letter_of_one_frame_among_many_holds_is_that_frame() -> None:
    parsed = FrameParser().parse_all([b'[ {"uid":"a","ts":1} , {"uid":"\\ud83d","ts":1},\n{"uid":""}]'])
    assert [(each.element and each.element.number, each.element and each.element.value) for each in parsed.refused] == [
        (1, b'{"uid":"\\ud83d","ts":1}'),
        (2, b'{"uid":""}'),
    ]
