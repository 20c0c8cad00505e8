"""Files of frames, one JSON object a line: gzip, zstd or plain, told apart by their content."""

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import zstandard

from unique_users.errors import InputError, UsageError

# The longest line that is kept whole, so that a file without line ends does not fill the memory.
LINE_BYTES_MAX = 8_000_000
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


class Line(NamedTuple):
    """One line without its end. `bytes_total` is larger than `len(value)` when the line was cut."""

    value: bytes
    bytes_total: int


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
        except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError, OSError) as error:
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


def _decompressed(file: Any) -> Lines:
    start = file.peek(len(_ZSTD))
    if start.startswith(_GZIP):
        return gzip.open(file)
    if start.startswith(_ZSTD):
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True), 1 << 20)
    plain: Lines = file
    return plain
