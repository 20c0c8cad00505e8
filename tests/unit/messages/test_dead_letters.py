"""A dead letter is read as it was written, whatever headers its record had."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unique_users.messages.dead_letters import DeadLetter, Headers, own_headers_begin
from unique_users.messages.frame import Reason

NAMES = st.sampled_from(["reason", "detail", "topic", "element", "bytes_total", "left_out", "replayed"]) | st.text()
RECORD_HEADERS = st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=20)), max_size=8).map(tuple)
NUMBERS = st.integers(0, 2**63 - 1)
LETTERS = st.builds(
    DeadLetter,
    st.sampled_from([reason.value for reason in Reason]),
    st.text(st.characters(codec="utf-8"), max_size=200),
    st.sampled_from(["feed", "bucketed"]),
    st.integers(0, 99_999),
    NUMBERS,
    st.binary(max_size=50),
    st.none() | st.binary(max_size=20),
    st.just(-1) | NUMBERS,
    RECORD_HEADERS,
    st.none() | st.integers(0, 10_000),
    bytes_total=st.none(),
    left_out=st.just(False),  # noqa: FBT003
)


@given(LETTERS)
def test_what_is_written_is_read_again(letter: DeadLetter) -> None:
    assert DeadLetter.read(letter.value, letter.key, letter.headers()) == letter


@given(LETTERS, st.integers(0, 100))
def test_what_was_cut_is_told(letter: DeadLetter, total: int) -> None:
    cut = [*letter.headers(), ("bytes_kept", b"1"), ("bytes_total", b"%d" % total), ("left_out", b"key and headers")]
    assert DeadLetter.read(letter.value, letter.key, cut) == letter._replace(bytes_total=total, left_out=True)


@given(RECORD_HEADERS)
def test_headers_of_others_are_no_reason_to_fail(headers: Headers) -> None:
    found = DeadLetter.read(None, None, headers)
    assert (found is None) == (own_headers_begin(headers) is None)


@pytest.mark.parametrize("number", [b"", b"-1", b"1_0", b"9" * 30, "٣".encode(), b"\xff", None])
def test_a_number_of_another_program_is_none(number: bytes | None) -> None:
    found = DeadLetter.read(b"v", None, [("reason", b"late"), ("topic", b"t"), ("offset", number)])
    assert found == DeadLetter("late", "", "t", -1, -1, b"v")


def test_a_letter_of_an_earlier_version_has_no_time() -> None:
    earlier = [("reason", b"bad_ts"), ("detail", b"why"), ("topic", b"feed"), ("partition", b"1"), ("offset", b"2")]
    assert DeadLetter.read(b"v", None, earlier) == DeadLetter("bad_ts", "why", "feed", 1, 2, b"v")


def test_one_that_was_replayed_before_is_known_by_the_header_of_its_record() -> None:
    letter = DeadLetter("bad_ts", "why", "feed", 1, 2, b"v")
    assert not letter.replayed
    assert letter._replace(record_headers=(("replayed", b"1"),)).replayed
