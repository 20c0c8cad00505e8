"""Decompression against the standard library's and zstandard's own, over random content, pieces and damage."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random

import pytest
import zstandard

from unique_users.producer import decompression
from unique_users.producer.decompression import WindowError, unpacked_gzip, unpacked_zstd

RUNS = 60
Unpack = Callable[[io.BufferedReader], Iterator[bytes]]


def reader(data: bytes, buffer: int = 8_192) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(data), buffer)


def content(random: Random) -> bytes:
    """Runs of one byte, noise and repetitions, from nothing up to some hundreds of kB."""
    parts = [
        b"",
        random.randbytes(random.randrange(1, 70_000)),
        bytes([random.randrange(256)]) * random.randrange(300_000),
        b"%d,\n" % random.getrandbits(40) * random.randrange(20_000),
    ]
    return b"".join(random.choices(parts, k=random.randrange(1, 5)))


def as_gzip(random: Random, data: bytes) -> bytes:
    return gzip.compress(data, random.choice([0, 1, 6, 9]))


def as_zstd(random: Random, data: bytes) -> bytes:
    """A frame with or without checksum, size and the window of a stream; sometimes with one to be skipped before it."""
    known = random.random() < 0.5
    compressor = zstandard.ZstdCompressor(
        level=random.choice([-5, 1, 3, 12]), write_checksum=random.random() < 0.5, write_content_size=known
    )
    skipped = b"\x53\x2a\x4d\x18\x07\x00\x00\x00skipped" if random.random() < 0.3 else b""
    if known:
        return skipped + compressor.compress(data)
    stream = compressor.compressobj()
    middle = random.randrange(len(data) + 1)
    flushed = stream.compress(data[:middle]) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    return skipped + flushed + stream.compress(data[middle:]) + stream.flush()


FORMS = {"gzip": (as_gzip, unpacked_gzip), "zstd": (as_zstd, unpacked_zstd)}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> tuple[Callable[[Random, bytes], bytes], Unpack]:
    return FORMS[request.param]


def until_error(pieces: Iterator[bytes]) -> tuple[bytes, Exception | None]:
    seen: list[bytes] = []
    try:
        seen.extend(pieces)  # what came before the error stays
    except (EOFError, zlib.error, zstandard.ZstdError, WindowError) as error:
        return b"".join(seen), error
    return b"".join(seen), None


@pytest.mark.parametrize("seed", range(RUNS))
def test_members_and_frames_give_their_content_in_small_pieces(
    form: tuple[Callable[[Random, bytes], bytes], Unpack], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compress, unpack = form
    random = Random(seed)
    for name in ("COMPRESSED_BYTES", "UNPACKED_BYTES"):
        monkeypatch.setattr(decompression, name, random.choice([random.randrange(1_000, 9_000), 1 << 17]))
    contents = [content(random) for _ in range(random.randrange(1, 4))]
    zeros = b"\0" * random.choice([0, 0, 4, 512, 100_000])
    data = b"".join(compress(random, each) for each in contents) + zeros
    if unpack is unpacked_gzip:
        assert gzip.decompress(data) == b"".join(contents)
    pieces = list(unpack(reader(data, random.choice([1, 100, 8_192]))))
    assert b"".join(pieces) == b"".join(contents)
    assert max(map(len, pieces), default=0) <= 1 << 17


@pytest.mark.parametrize("seed", range(RUNS))
def test_what_comes_before_a_cut_or_a_damage_is_given(
    form: tuple[Callable[[Random, bytes], bytes], Unpack], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compress, unpack = form
    random = Random(seed)
    monkeypatch.setattr(decompression, "COMPRESSED_BYTES", random.choice([100, 5_000, 1 << 15]))
    monkeypatch.setattr(decompression, "UNPACKED_BYTES", random.choice([1_000, 1 << 19]))
    first, second = content(random), content(random) + random.randbytes(1_000)
    whole, more = compress(random, first), compress(random, second)
    place = random.randrange(1, len(more))
    seen, error = until_error(unpack(reader(whole + more[:place])))
    assert isinstance(error, EOFError)
    assert seen == first + second[: len(seen) - len(first)]
    if unpack is unpacked_gzip:
        assert seen == first + zlib.decompressobj(31).decompress(more[:place])
    flipped = bytearray(more)
    flipped[place] ^= 1 << random.randrange(8)
    seen, error = until_error(unpack(reader(whole + flipped)))
    assert seen.startswith(first)
    if unpack is unpacked_gzip:
        assert seen == first + byte_by_byte(bytes(flipped))


def byte_by_byte(data: bytes) -> bytes:
    """All that a gzip member gives before its damage."""
    decompressor = zlib.decompressobj(31)
    plain: list[bytes] = []
    with suppress(zlib.error):
        plain.extend(decompressor.decompress(data[place : place + 1]) for place in range(len(data)))
    return b"".join(plain)


def test_a_wrong_checksum_is_an_error_behind_the_whole_content(
    form: tuple[Callable[[Random, bytes], bytes], Unpack],
) -> None:
    text = b"a line\n" * 100_000
    data = (
        gzip.compress(text)[:-8] + bytes(4) + gzip.compress(text)[-4:]
        if form[1] is unpacked_gzip
        else zstandard.ZstdCompressor(write_checksum=True).compress(text)[:-4] + bytes(4)
    )
    seen, error = until_error(form[1](reader(data)))
    assert seen == text
    assert isinstance(error, zlib.error | zstandard.ZstdError)


def test_zeros_between_two_members_of_gzip_are_left_out_as_the_standard_reader_does() -> None:
    data = gzip.compress(b"first\n") + bytes(200_000) + gzip.compress(b"second\n")
    assert b"".join(unpacked_gzip(reader(data))) == gzip.decompress(data) == b"first\nsecond\n"


def test_garbage_behind_the_last_member_is_an_error(form: tuple[Callable[[Random, bytes], bytes], Unpack]) -> None:
    seen, error = until_error(form[1](reader(form[0](Random(1), b"first\n") + b"garbage")))
    assert seen == b"first\n"
    assert error is not None


def test_a_frame_to_be_skipped_may_begin_a_file() -> None:
    data = b"\x50\x2a\x4d\x18\x04\x00\x00\x00\x01\x02\x03\x04" + zstandard.compress(b"text")
    assert b"".join(unpacked_zstd(reader(data))) == b"text"


def test_a_frame_that_asks_for_more_memory_than_is_granted_is_refused() -> None:
    window_log_31 = b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3])
    seen, error = until_error(unpacked_zstd(reader(window_log_31 + bytes(100))))
    assert seen == b""
    assert isinstance(error, WindowError)
    assert "needs a window of 2,147,483,648 bytes to decompress, but the limit is 134,217,728" in str(error)
