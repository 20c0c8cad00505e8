"""Files of frames, one JSON object a line: gzip, zstd or plain, told apart by their content."""

import io
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import zstandard

from unique_users.errors import InputError, UsageError
from unique_users.frames import Line

# The longest line that is kept whole, so that a file without line ends does not fill the memory.
LINE_BYTES_MAX = 8_000_000
COMPRESSED_BYTES = 16 * 1024  # read at a time
PLAIN_BYTES = 256 * 1024
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


class Lines(Protocol):
    """What is asked of an open file."""

    def readline(self, limit: int, /) -> bytes:
        """The next line with its end, or its first `limit` bytes; empty at the end of the file."""


class FrameFile:
    """The lines of a file, or of stdin for `-`. A context manager and an iterator of Line; blank lines are left out.

    Iterating raises InputError when the file is damaged or cut off; what came before was whole.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.blank_lines = 0
        try:
            self._file: Any = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115
            self.bytes_total = None if path == "-" else Path(path).stat().st_size
            self._lines: Lines = _decompressed(self._file)
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

    def __iter__(self) -> Iterator[Line]:
        readline = self._lines.readline
        try:
            while line := readline(LINE_BYTES_MAX):
                if line.endswith(b"\n") or len(line) < LINE_BYTES_MAX:
                    value = line.rstrip(b"\r\n")
                    if value.strip():
                        yield Line(value, len(value))
                    else:
                        self.blank_lines += 1
                else:
                    yield Line(line, len(line) + self._skip_rest_of_line())
        except (EOFError, zlib.error, zstandard.ZstdError, OSError) as error:
            message = f"{self.path}: damaged or cut off here: {error}"
            raise InputError(message) from None

    def _skip_rest_of_line(self) -> int:
        skipped = 0
        while part := self._lines.readline(LINE_BYTES_MAX):
            skipped += len(part.rstrip(b"\r\n"))
            if part.endswith(b"\n"):
                break
        return skipped

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.path != "-":
            self._file.close()


class _Decompressed(io.RawIOBase):
    """Decompresses `file`, one member or frame after the other, and gives all that came before a damage.

    The standard readers do neither: gzip's gives nothing of the block in which it meets the damage, zstd's takes a
    cut-off file for a whole one.
    """

    def __init__(self, file: Any, new_decompressor: Callable[[], Any]) -> None:
        self._file = file
        self._new_decompressor = new_decompressor
        self._decompressor = new_decompressor()
        self._compressed = b""
        self._plain = memoryview(b"")  # a part of it is taken without copying the rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._plain:
            if not self._compressed:
                self._compressed = self._file.read(COMPRESSED_BYTES)
            if self._decompressor.eof:
                # Some programs fill the last block of a gzip file up with zeros.
                if not self._compressed.strip(b"\0"):
                    return 0
                self._decompressor = self._new_decompressor()
            elif not self._compressed:
                message = "its end is missing"
                raise EOFError(message)
            self._plain = memoryview(self._decompressor.decompress(self._compressed))
            self._compressed = self._decompressor.unused_data
        size = min(len(buffer), len(self._plain))
        buffer[:size] = self._plain[:size]
        self._plain = self._plain[size:]
        return size


def _decompressed(file: Any) -> Lines:
    start = file.peek(len(_ZSTD))
    if start.startswith(_GZIP):
        return io.BufferedReader(_Decompressed(file, lambda: zlib.decompressobj(wbits=31)), PLAIN_BYTES)
    if start.startswith(_ZSTD):
        return io.BufferedReader(_Decompressed(file, zstandard.ZstdDecompressor().decompressobj), PLAIN_BYTES)
    plain: Lines = file
    return plain
