"""Decompress the records of a batch in bounded memory: a few kilobytes may unpack to any size.

The packages that kafka-python uses unpack whatever arrives, all at once.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO

import lz4.frame
import snappy
import zstandard
from kafka import codec as codecs
from kafka.record.default_records import DefaultRecordBatch

# Four of the largest records that a producer here sends. A poll takes twice that: the bytes, and the values in them.
UNPACKED_BYTES_MAX = 64 * 1024 * 1024
PIECE_BYTES = 1024 * 1024


class UnreadableError(Exception):
    """A batch that cannot be unpacked; the message says why."""


def unpacked(codec: int, data: bytes) -> bytes:
    """The records in `data`, compressed with `codec`. Raises UnreadableError."""
    try:
        return _joined(_PIECES[codec](data))
    except _DAMAGED as error:
        raise UnreadableError(f"its batch is damaged: {str(error) or type(error).__name__}") from None


def _joined(pieces: Iterator[bytes]) -> bytes:
    taken: list[bytes] = []
    size = 0
    for piece in pieces:
        taken.append(piece)
        size += len(piece)
        if size > UNPACKED_BYTES_MAX:
            raise UnreadableError(f"its batch unpacks to more than {UNPACKED_BYTES_MAX} bytes")
    return taken[0] if len(taken) == 1 else b"".join(taken)


def _gzip(data: bytes) -> Iterator[bytes]:
    while data:  # one member behind the other
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        yield member.decompress(data, PIECE_BYTES)
        while not member.eof:
            if not (piece := member.decompress(member.unconsumed_tail, PIECE_BYTES)):
                raise EOFError("it is cut off")
            yield piece
        data = member.unused_data


def _lz4(data: bytes) -> Iterator[bytes]:
    frame = lz4.frame.LZ4FrameDecompressor()
    yield frame.decompress(data, max_length=PIECE_BYTES)
    while not frame.eof:
        if not (piece := frame.decompress(b"", max_length=PIECE_BYTES)):
            raise EOFError("it is cut off")
        yield piece


def _zstd(data: bytes) -> Iterator[bytes]:
    with zstandard.ZstdDecompressor().stream_reader(BytesIO(data), read_across_frames=True) as reader:
        while piece := reader.read(PIECE_BYTES):
            yield piece


def _snappy(data: bytes) -> Iterator[bytes]:
    if not codecs._detect_xerial_stream(data):  # noqa: SLF001  # the test for the form that Java's clients write
        yield _snappy_block(data)
        return
    at = _XERIAL_HEADER_BYTES
    while at < len(data):
        (size,) = struct.unpack_from("!i", data, at)
        if not 0 < size <= len(data) - at - 4:
            raise EOFError("it is cut off")
        yield _snappy_block(data[at + 4 : at + 4 + size])
        at += 4 + size


def _snappy_block(data: bytes) -> bytes:
    """A block is unpacked at once: its length comes first, as a number with seven bits per byte."""
    size = shift = 0
    for byte in data[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004  # the bit that says that another byte follows
            break
    if size > UNPACKED_BYTES_MAX:
        raise UnreadableError(f"its batch unpacks to more than {UNPACKED_BYTES_MAX} bytes")
    # Not kafka-python's function, which would look for framed blocks inside a block and unpack them without a limit.
    block: bytes = snappy.uncompress(data)
    return block


_XERIAL_HEADER_BYTES = 16
_PIECES: dict[int, Callable[[bytes], Iterator[bytes]]] = {
    DefaultRecordBatch.CODEC_NONE: lambda data: iter([data]),
    DefaultRecordBatch.CODEC_GZIP: _gzip,
    DefaultRecordBatch.CODEC_SNAPPY: _snappy,
    DefaultRecordBatch.CODEC_LZ4: _lz4,
    DefaultRecordBatch.CODEC_ZSTD: _zstd,
}
# What these packages raise for malformed bytes.
_DAMAGED = (
    EOFError,
    RuntimeError,
    snappy.UncompressError,
    struct.error,
    ValueError,
    zlib.error,
    zstandard.ZstdError,
)
