"""Splitting JSON of any layout, against the standard library, over random values and random bytes."""

import io
import json
from itertools import chain
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from unique_users.errors import UsageError
from unique_users.producer.decompression import WindowError
from unique_users.producer.frame_files import _DAMAGED
from unique_users.producer.json_values import JsonValues
from unique_users.producer.layouts import layout_of
from unique_users.producer.refusals import InputName
from unique_users.producer.unpacking import unpacked

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)
objects = st.dictionaries(st.text(), scalars | st.lists(scalars))
indents = st.sampled_from([None, 0, 1, "\t", "\r\n"])
sizes = st.integers(1, 40)
# Bytes that mean something somewhere come up often.
pieces = st.sampled_from(
    [b"{", b"}", b"[", b"]", b'"', b"\\", b",", b"\n", b" ", b"\xef\xbb\xbf", b"\0", b'{"a":1}', b"a,b"]
)
garbage = st.lists(pieces | st.binary(max_size=4), max_size=40).map(b"".join)
STARTS = [
    b"",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"BZh9",
    b"\xfd7zXZ\0",
    b"PK\x03\x04",
    b"\x50\x2a\x4d\x18",
    b"\xff\xfe",
]


def split(text: bytes, size: int) -> list[bytes]:
    found = JsonValues()
    return [value for at in range(0, len(text), size) for value in found.feed(text[at : at + size])] + found.end()


@given(st.lists(values, max_size=5), indents, sizes, st.booleans())
def test_the_elements_of_an_array_are_those_that_json_finds(
    elements: list[object],
    indent: int | str | None,
    size: int,
    ascii_only: bool,  # noqa: FBT001
) -> None:
    text = json.dumps(elements, indent=indent, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    assert [json.loads(value.decode(errors="surrogatepass")) for value in split(text, size)] == elements


@given(st.lists(objects, min_size=1, max_size=4), indents, sizes, st.sampled_from(["", "\n", ",\n", "\r\n\r\n"]))
def test_objects_put_together_are_those_that_json_finds(
    elements: list[object], indent: int | str | None, size: int, between: str
) -> None:
    text = between.join(json.dumps(element, indent=indent) for element in elements).encode()
    assert list(map(json.loads, split(text, size))) == elements


@given(garbage, sizes)
def test_wherever_blocks_end_the_values_are_the_same_even_of_garbage(text: bytes, size: int) -> None:
    def outcome(size: int) -> list[bytes] | str:
        try:
            return split(text, size)
        except EOFError as error:
            return str(error)

    assert outcome(size) == outcome(1_000_000)


@given(garbage, st.sampled_from(STARTS), sizes, st.booleans())
def test_garbage_ends_in_frames_or_in_an_error_that_is_known(
    text: bytes,
    start: bytes,
    size: int,
    regular: bool,  # noqa: FBT001
) -> None:
    origin = InputName("f", regular=regular)
    held, layout = b"", None
    try:
        for block in chain(unpacked(io.BufferedReader(io.BytesIO(start + text)), origin), [b""]):
            for at in range(0, len(block), size):
                held += block[at : at + size]
                layout = layout or layout_of(held, origin, ended=False)
        layout = layout or layout_of(held, origin, ended=True)
        assert layout is not None
        frames = layout.feed(held) + layout.end()
        assert sum(map(len, frames)) <= len(held)
    except (UsageError, WindowError, *_DAMAGED):
        pass


def test_a_random_split_of_one_large_array() -> None:
    random = Random(5)
    elements = [{"uid": str(n), "x": '\\]}"{[' * random.randrange(9), "y": [[n], {"z": []}]} for n in range(3_000)]
    assert list(map(json.loads, split(json.dumps(elements, indent=1).encode(), 4_099))) == elements
