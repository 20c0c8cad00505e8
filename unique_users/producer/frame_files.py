"""Files of frames, one JSON object per line: gzip, zstd or plain, recognised by their content."""

import os
import stat
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zstandard

from unique_users.errors import InputError, UsageError
from unique_users.messages.frame import CutLine
from unique_users.producer.decompression import WindowError, is_gzip, is_zstd, unpacked_gzip, unpacked_zstd
from unique_users.producer.read_ahead import read_ahead

# The longest line that is kept whole, so that a file without line ends does not fill the memory.
LINE_BYTES_MAX = 8_000_000
PLAIN_BYTES = 256 * 1024  # read at a time
JOINED_BYTES = 256 * 1024  # returned as one list of lines, while they are in the processor's cache


class FrameFile:
    """The lines of a file, or of stdin for `-`, without line ends; blank lines are skipped. A context manager.

    Iterating gives lists of lines: of a file, many at a time; of a pipe, those available, or an empty list ten times a
    second while there are none. A line that is too long becomes a CutLine. Raises InputError if the file is damaged or
    truncated; what came before was whole.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.blank_lines = 0
        self.blank_lines_first = 0  # before the first line that is not blank
        self._begun = False
        if path == "-" and sys.stdin is None:
            raise UsageError("stdin is closed: name a file, or pipe the frames in")
        try:
            # stdin gets a reader of its own: Python cannot exit while a thread waits in that of `sys`.
            self._file: Any = (
                open(sys.stdin.fileno(), "rb", closefd=False) if path == "-" else Path(path).open("rb")  # noqa: SIM115
            )
            self.bytes_total = None if path == "-" else Path(path).stat().st_size
            # A loop that reads a pipe has other things to watch; for a file, a thread would cost more than it gains.
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
        unfinished = _Unfinished()
        try:
            for block in self._blocks:
                yield self._kept(_lines(unfinished, block))
        except WindowError as error:
            message = f"{self.path}: {error}"
            raise InputError(message) from None
        except (EOFError, zlib.error, zstandard.ZstdError, OSError) as error:
            message = f"{self.path}: damaged or cut off here: {error}"
            raise InputError(message) from None
        if unfinished:
            yield self._kept([unfinished.take()])

    def _kept(self, lines: list[bytes]) -> list[bytes]:
        """The lines that are not blank."""
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


class _Unfinished:
    """The line whose end has not arrived: its first bytes, and how many followed. False if it has none."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._held) + self._dropped

    def add(self, more: bytes) -> None:
        """Continue it, in memory up to LINE_BYTES_MAX and one more, which may belong to the line end."""
        room = LINE_BYTES_MAX + 1 - len(self._held)
        self._held += more[:room]
        self._dropped += max(0, len(more) - room)

    def take(self) -> bytes:
        """Return the line, as a CutLine if it is too long, and begin the next one."""
        held, dropped = self._held, self._dropped
        self._held, self._dropped = bytearray(), 0
        if not dropped:
            held = held.rstrip(b"\r")
        whole = len(held) + dropped
        if whole <= LINE_BYTES_MAX:
            return bytes(held)
        del held[LINE_BYTES_MAX:]
        return CutLine(bytes(held), whole)


def _lines(unfinished: _Unfinished, block: bytes) -> list[bytes]:
    """The lines that end in a block, without line ends; the rest is unfinished."""
    if b"\n" not in block:
        unfinished.add(block)
        return []
    first, *ended = block.split(b"\n")
    unfinished.add(first.rstrip(b"\r"))
    lines = [unfinished.take()]
    unfinished.add(ended.pop())
    lines += [line.rstrip(b"\r") for line in ended]
    if max(map(len, lines), default=0) > LINE_BYTES_MAX:
        lines = [line if len(line) <= LINE_BYTES_MAX else CutLine(line[:LINE_BYTES_MAX], len(line)) for line in lines]
    return lines


def _blocks(file: Any) -> Iterator[bytes]:
    """The content of the file, decompressed, as it arrives."""
    start = file.peek(4)
    if is_gzip(start):
        yield from unpacked_gzip(file)
    elif is_zstd(start):
        yield from unpacked_zstd(file)
    else:
        yield from iter(lambda: file.read1(PLAIN_BYTES), b"")


def _joined(blocks: Iterator[bytes], bytes_max: int) -> Iterator[bytes]:
    """The same bytes in blocks of about `bytes_max`. An error comes after the bytes before it."""
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
