"""Decompressing files of any number of members, frames or streams, piece by piece, in bounded memory.

The standard readers fall short. gzip's returns nothing of a damaged block, and zstd's takes a truncated file for a
whole one. zstd's objects return everything that a few bytes unpack to at once, even gigabytes. Those of bz2 and xz
ignore what follows the last stream.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Any

import zstandard

COMPRESSED_BYTES = 32 * 1024  # read at a time; for zstd it is a block
FED_BYTES = 256  # at a time, for bz2 and xz: what these bytes unpack to is lost if damage follows
UNPACKED_BYTES = 512 * 1024  # returned at a time; for zstd it is a block, at most 128 KiB

# The window that a frame or a stream may ask for: what the zstd tool allows by default.
WINDOW_BYTES_MAX = 128 * 1024 * 1024
_XZ_BYTES_MAX = WINDOW_BYTES_MAX + 1024 * 1024  # xz also counts what it needs itself

_SKIPPABLE = range(0x184D2A50, 0x184D2A60)  # the first four bytes of data that is not the file's content
_HEADER_START_BYTES = 5  # tell how long a frame's header is
_RLE_BLOCK = 1  # a byte and how often it is repeated


class WindowError(Exception):
    """Decompressing needs more memory than is allowed."""


def unpacked_gzip(file: Any) -> Iterator[bytes]:
    """The content of `file`, up to any damage. Raises zlib.error, or EOFError if it is truncated."""
    compressed = b""
    while compressed := compressed or file.read1(COMPRESSED_BYTES):
        # Some programs pad the last block of a file with zeros.
        if compressed := compressed.lstrip(b"\0"):
            compressed = yield from unpacked_member(file, compressed)


def unpacked_member(file: Any, compressed: bytes = b"", wbits: int = 31) -> Generator[bytes, None, bytes]:
    """The content of a member that begins with `compressed`; returns what was read after it."""
    decompressor = zlib.decompressobj(wbits=wbits)
    while not decompressor.eof:
        compressed = _exactly(compressed or file.read1(COMPRESSED_BYTES), 1)
        before, given = decompressor.copy(), 0
        try:
            for plain in _pieces(decompressor, compressed):
                yield plain
                given += len(plain)
        except zlib.error:
            yield from _up_to_damage(before, compressed, given)
            raise
        compressed = b""
    return decompressor.unused_data


def _pieces(decompressor: Any, compressed: bytes) -> Iterator[bytes]:
    full = True
    while not decompressor.eof and (compressed or full):
        plain = decompressor.decompress(compressed, UNPACKED_BYTES)
        if plain:
            yield plain
        compressed, full = decompressor.unconsumed_tail, len(plain) == UNPACKED_BYTES


def _up_to_damage(decompressor: Any, compressed: bytes, given: int) -> Iterator[bytes]:
    """What the damaged input unpacks to before it raises an error, without the first `given` bytes."""
    with suppress(zlib.error):
        for place in range(len(compressed)):
            plain = decompressor.decompress(compressed[place : place + 1])
            yield plain[given:]
            given = max(0, given - len(plain))


def unpacked_bz2(file: Any) -> Iterator[bytes]:
    """The content of `file`, up to any damage. Raises OSError, or EOFError if it is truncated."""
    return _unpacked_streams(file, bz2.BZ2Decompressor)


def unpacked_xz(file: Any) -> Iterator[bytes]:
    """The content of `file`, up to any damage. Raises lzma.LZMAError, EOFError if it is truncated, WindowError."""
    try:
        yield from _unpacked_streams(file, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_BYTES_MAX))
    except lzma.LZMAError as error:
        if "Memory usage limit" not in str(error):
            raise
        message = (
            f"needs more than {_XZ_BYTES_MAX:,} bytes of memory to be unpacked: compress it with a smaller dictionary,"
            " such as that of xz -9"
        )
        raise WindowError(message) from None


def _unpacked_streams(file: Any, new: Callable[[], Any]) -> Iterator[bytes]:
    compressed = b""
    while compressed := compressed or file.read1(COMPRESSED_BYTES):
        # Two xz streams may have zeros between them.
        if compressed := compressed.lstrip(b"\0"):
            compressed = yield from unpacked_stream(file, new(), compressed)


def unpacked_stream(file: Any, decompressor: Any, compressed: bytes = b"") -> Generator[bytes, None, bytes]:
    """The content of a bz2 or xz stream that begins with `compressed`; returns what was read after it."""
    while not decompressor.eof:
        compressed = _exactly(compressed or file.read1(COMPRESSED_BYTES), 1)
        compressed = yield from _fed(decompressor, compressed)
    return compressed


def _fed(decompressor: Any, compressed: bytes) -> Generator[bytes, None, bytes]:
    """What some input unpacks to, up to any damage; returns the input after the stream's end."""
    held: list[bytes] = []
    at = 0
    try:
        while at < len(compressed) and not decompressor.eof:
            held.append(decompressor.decompress(compressed[at : at + FED_BYTES], UNPACKED_BYTES))
            at += FED_BYTES
            while not decompressor.eof and not decompressor.needs_input:
                yield b"".join(held)
                held = [decompressor.decompress(b"", UNPACKED_BYTES)]
    except (OSError, lzma.LZMAError):
        yield b"".join(held)
        raise
    yield b"".join(held)
    return decompressor.unused_data + compressed[at:] if decompressor.eof else b""


def unpacked_zstd(file: Any) -> Iterator[bytes]:
    """The content of `file`, block by block, up to any damage.

    Raises zstandard.ZstdError, EOFError if it is truncated, WindowError.
    """
    while start := file.read(_HEADER_START_BYTES):
        if _is_skippable(start):
            _skip(file, start)
        elif start.strip(b"\0"):
            yield from _frame(file, _exactly(start, _HEADER_START_BYTES))


def _frame(file: Any, start: bytes) -> Iterator[bytes]:
    size = zstandard.frame_header_size(start)
    header = start + _read(file, size - len(start))
    frame = zstandard.get_frame_parameters(header)
    if frame.window_size > WINDOW_BYTES_MAX:
        message = (
            f"needs a window of {frame.window_size:,} bytes to decompress, but the limit is {WINDOW_BYTES_MAX:,}:"
            " compress it without --long, or with --long=27"
        )
        raise WindowError(message)
    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX).decompressobj()
    decompressor.decompress(header)
    last = False
    while not last:
        block = _read(file, 3)
        head = int.from_bytes(block, "little")
        last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
        if plain := decompressor.decompress(block + _read(file, 1 if kind == _RLE_BLOCK else size)):
            yield plain
    if frame.has_checksum:
        decompressor.decompress(_read(file, 4))


def _is_skippable(start: bytes) -> bool:
    return int.from_bytes(start[:4], "little") in _SKIPPABLE


def _skip(file: Any, start: bytes) -> None:
    left = int.from_bytes(start[4:] + _read(file, 3), "little")
    while left:
        left -= len(_exactly(file.read(min(left, COMPRESSED_BYTES)), 1))


def _read(file: Any, size: int) -> bytes:
    return _exactly(file.read(size), size)


def _exactly(read: bytes, size: int) -> bytes:
    """What was read, which must be at least `size` bytes."""
    if len(read) < size:
        message = "its end is missing"
        raise EOFError(message)
    return read
