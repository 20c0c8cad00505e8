"""Examples of rejected frames: one for each reason, once a minute at most, and nothing that a terminal obeys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unique_users.reports.examples import Example, Examples, escaped, shown_start


def example(reason: str, place: int = 0, frame: bytes = b"{}") -> Example:
    return Example(reason, "why", f"feed-0@{place}", frame)


def test_each_reason_has_its_first_example_and_the_next_one_after_a_minute_with_what_came_since() -> None:
    """seconds   0                      59.9             60       61
    rejected  bad_ts x 3, late       bad_ts x 2       bad_ts   late
    """
    examples = Examples()
    first = [example("bad_ts", 1), example("late", 2), example("bad_ts", 3), example("bad_ts", 4)]
    assert examples.lines(first, 0) == [
        "rejected: feed-0@1: bad_ts: why: {} (3 for this reason so far)",
        "rejected: feed-0@2: late: why: {} (1 for this reason so far)",
    ]
    assert examples.lines([example("bad_ts", 5), example("bad_ts", 6)], 59.9) == []
    assert examples.lines([example("bad_ts", 7)], 60) == [
        "rejected: feed-0@7: bad_ts: why: {} (3 for this reason since the last example)"
    ]
    assert examples.lines([example("late", 8)], 61) == [
        "rejected: feed-0@8: late: why: {} (1 for this reason since the last example)"
    ]


@pytest.mark.parametrize(
    ("frame", "shown"),
    [
        (b'{"uid":"a\\u0041"}', '{"uid":"a\\u0041"}'),
        (b"\x1b[2J\x07\r\n\x7f", "\\x1b[2J\\x07\\x0d\\x0a\\x7f"),
        ("\u202ea\u2066b\u200bc\u2028\u0085".encode(), "\\u202ea\\u2066b\\u200bc\\u2028\\x85"),
        ("ü😀\U000e0001".encode(), "ü😀\\U000e0001"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"x" * 80, "x" * 80),
        (b"x" * 81, "x" * 80 + "…"),
        ("😀".encode() * 81, "😀" * 80 + "…"),
        (b"\xff" * 81, "\\xff" * 80 + "…"),
        (b"", ""),
    ],
)
def test_the_start_of_a_frame_is_shown_with_what_a_terminal_would_obey_escaped(frame: bytes, shown: str) -> None:
    assert shown_start(frame) == shown


@given(st.binary(max_size=500), st.text(max_size=300))
def test_whatever_is_shown_is_printable(frame: bytes, detail: str) -> None:
    words = Example("bad_ts", detail, "feed-0@1", frame).words()
    assert words.isprintable()
    assert words.encode().decode() == words


def test_printable_text_stays_as_it_is() -> None:
    assert escaped("ümlaut 日本 \\ \"'") == "ümlaut 日本 \\ \"'"
