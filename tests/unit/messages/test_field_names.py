"""Which fields there are, when none of the first frames is accepted: names by their share, and never a value."""

import json
from typing import Any

import pytest

from unique_users.messages.field_names import FRAMES_MAX, FirstFrames
from unique_users.messages.frame_parser import FrameParser

SEGMENT = {"anonymousId": "x", "event": {"time": "2024-05-20T10:00:00Z"}, "context": {"page": {"url": "https://a"}}}


def told(*frames: Any, read: int | None = None) -> str | None:
    """What is told of frames that the default parser rejects; `read` of them, the last one repeated."""
    raws = [frame if isinstance(frame, bytes) else json.dumps(frame).encode() for frame in frames]
    raws += [raws[-1]] * ((read or len(raws)) - len(raws))
    first = FirstFrames("uid", "ts")
    for raw in raws:
        parsed = FrameParser().parse_all([raw])
        if line := first.add([raw], len(parsed.uids), [refused.error.reason for refused in parsed.refused]):
            return line
    return first.told()


def test_the_fields_are_named_by_their_share_with_paths() -> None:
    assert told(*[{**SEGMENT, "userId": "u"}] * 3, SEGMENT) == (
        "none of the first 4 frames was accepted: frame.uid is 'uid', frame.ts is 'ts'; seen instead:"
        " anonymousId (100 %), event.time (100 %), context.page.url (100 %), userId (75 %);"
        " set frame.uid and frame.ts to the fields with the user and the time"
    )


def test_it_is_told_with_the_thousandth_frame_and_once() -> None:
    first = FirstFrames("uid", "ts")
    frames = [b'{"id":1}'] * 600
    assert first.add(frames, 0, ["no_uid"]) is None
    assert (first.add(frames, 0, ["no_uid"]) or "").startswith("none of the first 1,000 frames was accepted: ")
    assert first.add(frames, 0, ["no_uid"]) is None
    assert first.told() is None


def test_one_accepted_frame_and_nothing_is_told() -> None:
    assert told(b'{"uid":"u","ts":1}', *[b'{"id":1}'] * 1_500) is None
    assert told(*[b'{"id":1}'] * 900, b'{"uid":"u","ts":1}', *[b'{"id":1}'] * 900) is None


@pytest.mark.parametrize("frame", [b"{", b"", b"BZh9\x17", b"[]", b"7", b'[["a"]]', b"{}", b"[" * 5_000])
def test_without_fields_there_is_nothing_to_name(frame: bytes) -> None:
    assert told(frame, read=5) is None


@pytest.mark.parametrize("frame", [b'[{"id":1},{"other":1}]', b'\n{"id":1}\n{"other":1}\n'])
def test_of_several_frames_in_one_message_the_first_is_looked_at(frame: bytes) -> None:
    first = FirstFrames("uid", "ts")
    assert "seen instead: id (100 %);" in (first.add([frame] * 1_000, 0, ["no_uid"]) or "")


def test_frames_that_are_late_or_in_the_future_have_the_right_fields() -> None:
    first = FirstFrames("uid", "ts")
    assert first.add([b'{"uid":"u","ts":1}'] * FRAMES_MAX, 0, ["late", "future"]) is None
    assert first.told() is None


def test_where_most_frames_have_both_fields_the_settings_are_not_what_is_wrong() -> None:
    wrong_unit = b'{"user":{"id":"u"},"at":1716200041007}'
    frames = [wrong_unit, wrong_unit, b'{"user":{},"at":1716200041007}']
    for uid, ts, right in (("user.id", "at", True), (["id", "user.id"], "at", True), ("user.id", "ts", False)):
        first = FirstFrames(uid, ts)
        first.add(frames, 0, ["bad_ts", "no_uid"])
        assert (first.told() is None) is right


def test_no_frame_before_a_report_is_nothing_to_tell_and_no_reason_to_be_done() -> None:
    first = FirstFrames("uid", "ts")
    assert first.told() is None
    assert not first.done


def test_names_that_are_data_are_left_out_and_the_others_are_bounded_and_printable() -> None:
    frames = [{"users": {f"user-{n}@example.com": "x"}, "\x1b[2J\u202e" + "n" * 200: 1} for n in range(500)]
    line = told(*frames) or ""
    assert "example.com" not in line
    assert "\\x1b[2J\\u202ennn" in line
    assert line.isprintable()
    assert len(line) < 400
    many = told({f"field-{n}": n for n in range(2_000)}, read=10) or ""
    assert many.count("100 %") == 20
    assert ", and 280 more; " in many


def test_likely_names_come_before_others_of_the_same_share() -> None:
    line = told({"aaa": 1, "zzz": {"user_id": "u", "created_at": 1}, "bbb": 2}) or ""
    assert "zzz.created_at (100 %), zzz.user_id (100 %), aaa (100 %), bbb (100 %)" in line


def test_values_are_never_told() -> None:
    assert "secret" not in (told({"a": "secret", "b": ["secret"], "c": {"d": "secret"}}) or "")
