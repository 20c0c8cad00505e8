"""Files of frames, one JSON object a line: gzip, zstd or plain, told apart by their content."""

import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zstandard

from unique_users.errors import InputError, UsageError
from unique_users.frames import CutLine
from unique_users.read_ahead import read_ahead

# The longest line that is kept whole, so that a file without line ends does not fill the memory.
LINE_BYTES_MAX = 8_000_000
COMPRESSED_BYTES = 64 * 1024  # read at a time; of a damaged file at most so much before the damage is lost
PLAIN_BYTES = 256 * 1024  # read at a time
JOINED_BYTES = 256 * 1024  # handed out as one list of lines, while they are in the processor's cache
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


class FrameFile:
    """The lines of a file, or of stdin for `-`, without their ends; blank ones are left out. A context manager.

    Iterating gives lists of them: many lines of a file, of a pipe those that are there, and ten times a second an empty
    list while there are none. Of what is too long there is a CutLine. Raises InputError when the file is damaged or cut
    off; what came before was whole.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.blank_lines = 0
        self.blank_lines_first = 0  # those before the first that is not
        self._begun = False
        try:
            # Of stdin a reader of its own: Python cannot end while a thread waits in that of `sys`.
            self._file: Any = (
                open(sys.stdin.fileno(), "rb", closefd=False) if path == "-" else Path(path).open("rb")  # noqa: SIM115
            )
            self.bytes_total = None if path == "-" else Path(path).stat().st_size
            # Who waits for a pipe looks at other things as well; for a file a thread would cost more than it gives.
            regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
            self._blocks = (_joined if regular else read_ahead)(_blocks(self._file), JOINED_BYTES)
        except FileNotFoundError:
            message = f"{path}: no such file: name one, or `-` for stdin"
            raise UsageError(message) from None
        except OSError as error:
            message = f"{path}: cannot be read: {error.strerror or error}"
            raise InputError(message) from None

    def bytes_read(self) -> int:
        """Bytes of the file read so far, before decompression."""
        position: int = self._file.tell() if self.bytes_total is not None else 0
        return position

    def __iter__(self) -> Iterator[list[bytes]]:
        rest, dropped = b"", 0  # of a line whose end has not come: its first bytes, and how many followed them
        try:
            for block in self._blocks:
                ended = (rest + block).split(b"\n")
                rest = ended.pop()
                yield self._kept(ended, dropped)
                excess = max(0, len(rest) - LINE_BYTES_MAX - 1)  # one more, which may belong to the line's end
                dropped = excess if ended else dropped + excess
                rest = rest[: LINE_BYTES_MAX + 1]
        except (EOFError, zlib.error, zstandard.ZstdError, OSError) as error:
            message = f"{self.path}: damaged or cut off here: {error}"
            raise InputError(message) from None
        if rest:
            yield self._kept([rest], dropped)

    def _kept(self, ended: list[bytes], dropped: int) -> list[bytes]:
        """The lines that are not blank, cut where they are too long; of the first one so many bytes were dropped."""
        lines = [line.rstrip(b"\r") for line in ended]
        if dropped or max(map(len, lines), default=0) > LINE_BYTES_MAX:
            lines = [_cut(lines[0], dropped), *map(_cut, lines[1:])] if lines else []
        kept = [line for line in lines if line and not line.isspace()]
        if kept and not self._begun:
            self._begun = True
            self.blank_lines_first = self.blank_lines + lines.index(kept[0])
        self.blank_lines += len(lines) - len(kept)
        return kept

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.raw.close()  # its own close would wait for a thread that waits for a pipe


def _cut(line: bytes, dropped: int = 0) -> bytes:
    bytes_total = len(line) + dropped
    return line if bytes_total <= LINE_BYTES_MAX else CutLine(line[:LINE_BYTES_MAX], bytes_total)


def _blocks(file: Any) -> Iterator[bytes]:
    """What is in the file, decompressed, as it comes."""
    start = file.peek(len(_ZSTD))
    if start.startswith(_GZIP):
        yield from _decompressed(file, lambda: zlib.decompressobj(wbits=31))
    elif start.startswith(_ZSTD):
        yield from _decompressed(file, zstandard.ZstdDecompressor().decompressobj)
    else:
        yield from iter(lambda: file.read1(PLAIN_BYTES), b"")


def _joined(blocks: Iterator[bytes], bytes_max: int) -> Iterator[bytes]:
    """The same bytes in blocks of about `bytes_max`. An error comes behind the bytes before it."""
    held: list[bytes] = []
    held_bytes = 0
    try:
        for block in blocks:
            held.append(block)
            held_bytes += len(block)
            if held_bytes >= bytes_max:
                yield b"".join(held)
                held, held_bytes = [], 0
    except Exception:
        yield b"".join(held)
        raise
    yield b"".join(held)


def _decompressed(file: Any, new_decompressor: Callable[[], Any]) -> Iterator[bytes]:
    """Decompress `file`, one member or frame after the other, and give what came before a damage.

    The standard readers do neither: gzip's gives nothing of the block in which it meets the damage, zstd's takes a
    cut-off file for a whole one.
    """
    decompressor = new_decompressor()
    compressed = b""
    while True:
        compressed = compressed or file.read1(COMPRESSED_BYTES)
        if decompressor.eof:
            # Some programs fill the last block of a gzip file up with zeros.
            if not compressed.strip(b"\0"):
                return
            decompressor = new_decompressor()
        elif not compressed:
            message = "its end is missing"
            raise EOFError(message)
        if plain := decompressor.decompress(compressed):
            yield plain
        compressed = decompressor.unused_data
