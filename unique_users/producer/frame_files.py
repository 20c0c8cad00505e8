"""Files and pipes of frames: unpacked, split into frames, and refused if they hold something else."""

import lzma
import os
import stat
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zstandard

from unique_users.errors import InputError, UsageError
from unique_users.producer.decompression import WindowError
from unique_users.producer.json_values import JsonValues
from unique_users.producer.layouts import Splitter, layout_of
from unique_users.producer.read_ahead import read_ahead
from unique_users.producer.refusals import InputName
from unique_users.producer.unpacking import unpacked

JOINED_BYTES = 256 * 1024  # returned as one list of frames, while they are in the processor's cache
STDIN = {"-", "/dev/stdin", "/dev/fd/0"}
_DAMAGED = (EOFError, zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError)


class FrameFile:
    """The frames of a file or a pipe, or of stdin for `-`. A context manager.

    A frame is a line, without its line end; blank lines are skipped. In a JSON array it is the bytes of an element; if
    objects take several lines, it is the bytes of an object. One that is too long becomes a CutLine.

    Iterating gives lists of frames. From a file, they are many at a time; from a pipe, those available, or an empty
    list ten times a second while there are none. Raises InputError if the file is damaged or truncated; what came
    before was whole. Raises UsageError if it holds something other than frames: for a file, before it is iterated, and
    always before any of its frames.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.blank_lines = 0
        self.blank_lines_first = 0  # before the first line that is not blank
        self.has_begun = False  # a frame has been read
        self._file: Any = None
        self._layout: Splitter | None = None
        self._start = b""
        self._error: Exception | None = None
        if not path:
            raise UsageError("the name of a file is empty: name one, or `-` for stdin")
        if path in STDIN and sys.stdin is None:
            raise UsageError("stdin is closed: name a file, or pipe the frames in")
        try:
            status = os.fstat(sys.stdin.fileno()) if path in STDIN else Path(path).stat()
            if path in STDIN or not stat.S_ISFIFO(status.st_mode):
                self._open()
        except FileNotFoundError:
            message = f"{path}: no such file: name one, or `-` for stdin"
            raise UsageError(message) from None
        except IsADirectoryError:
            message = f"{path}: is a directory: name the files in it, in order"
            raise UsageError(message) from None
        except OSError as error:
            message = f"{path}: cannot be read: {error.strerror or error}"
            raise UsageError(message) from None
        regular = stat.S_ISREG(status.st_mode)
        self._origin = InputName(path, regular=regular and path not in STDIN)
        self.bytes_total = status.st_size if self._origin.regular else None
        # A loop that reads a pipe has other things to watch; for a file, a thread would cost more than it gains.
        self._blocks = (_joined if regular else read_ahead)(self._unpacked(), JOINED_BYTES)
        if regular:
            try:
                for _ in self._recognised():
                    pass
            except UsageError:
                self.close()
                raise

    @property
    def has_lines(self) -> bool:
        """Whether its frames are lines."""
        return not isinstance(self._layout, JsonValues)

    def bytes_read(self) -> int:
        """Bytes of the file read so far, before decompression."""
        position: int = self._file.tell() if self.bytes_total is not None else 0
        return position

    def __iter__(self) -> Iterator[list[bytes]]:
        if self._layout is None:
            yield from self._recognised()
        assert self._layout is not None
        start, self._start = self._start, b""
        yield self._kept(self._layout.feed(start))
        try:
            if self._error is not None:
                raise self._error
            for block in self._blocks:
                yield self._kept(self._layout.feed(block))
            last = self._layout.end()
        except WindowError as error:
            message = f"{self.path}: {error}"
            raise InputError(message) from None
        except _DAMAGED as error:
            message = f"{self.path}: damaged or cut off here: {error}"
            raise InputError(message) from None
        yield self._kept(last)

    def _recognised(self) -> Iterator[list[bytes]]:
        """Read until it is known what the text is; until then return nothing, like a pipe that has nothing yet."""
        try:
            for block in self._blocks:
                self._start += block
                self._layout = layout_of(self._start, self._origin, ended=False)
                if self._layout is not None:
                    return
                yield []
        except (WindowError, *_DAMAGED) as error:
            self._error = error  # raised after the frames before it
        self._layout = layout_of(self._start, self._origin, ended=True)

    def _unpacked(self) -> Iterator[bytes]:
        if self._file is None:
            try:
                self._open()  # waits until another program opens the pipe as well
            except OSError as error:
                message = f"{self.path}: cannot be read: {error.strerror or error}"
                raise InputError(message) from None
        yield from unpacked(self._file, self._origin)

    def _open(self) -> None:
        path = self.path
        # stdin gets a reader of its own: Python cannot exit while a thread waits in the one of `sys`.
        self._file = (
            open(sys.stdin.fileno(), "rb", closefd=False) if path in STDIN else Path(path).open("rb")  # noqa: SIM115
        )

    def _kept(self, frames: list[bytes]) -> list[bytes]:
        """The frames that are not blank."""
        kept = [frame for frame in frames if frame and not frame.isspace()]
        if kept and not self.has_begun:
            self.has_begun = True
            self.blank_lines_first = self.blank_lines + frames.index(kept[0])
        self.blank_lines += len(frames) - len(kept)
        return kept

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; may be called again."""
        if self._file is not None:
            self._file.raw.close()  # its own close would wait for a thread that waits for a pipe


class FrameFiles:
    """The frames of one or more files in order, each as a FrameFile gives them. A context manager.

    All except pipes are checked before the first one is read, so a wrong one is reported before any frame is used. If
    one is damaged, those after it are not read.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        if sum(path in STDIN for path in paths) > 1:
            raise UsageError("stdin can be read only once")
        self._paths = paths
        others = [_bytes_total(path) for path in paths[1:]]
        self._files = [FrameFile(paths[0])]  # those before the last one are read
        totals = [total for total in (self._files[0].bytes_total, *others) if total is not None]
        self.bytes_total = sum(totals) if len(totals) == len(paths) else None

    @property
    def path(self) -> str:
        """Of the file, or how many files there are."""
        return self._paths[0] if len(self._paths) == 1 else f"{len(self._paths)} files"

    @property
    def blank_lines(self) -> int:
        """In all files together."""
        return sum(file.blank_lines for file in self._files)

    def bytes_read(self) -> int:
        """Bytes of the files read so far, before decompression."""
        return sum(file.bytes_total or 0 for file in self._files[:-1]) + self._files[-1].bytes_read()

    @property
    def skipped_lines(self) -> int | None:
        """The blank lines before the first frame; None if a frame's number does not determine its line."""
        file = self._files[0]
        known = len(self._paths) == 1 and file.has_lines and file.blank_lines == file.blank_lines_first
        return file.blank_lines_first if known else None

    def __iter__(self) -> Iterator[list[bytes]]:
        for number, path in enumerate(self._paths):
            if number:
                self._files[-1].close()
                self._files.append(FrameFile(path))
            try:
                yield from self._files[-1]
            except InputError as error:
                left = len(self._paths) - number - 1
                if not left:
                    raise
                after = "the file after it is" if left == 1 else f"the {left} files after it are"
                message = f"{error}; {after} not read"
                raise InputError(message) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files[-1].close()


def _bytes_total(path: str) -> int | None:
    """The size of a file, after a check that it can be read; None for a pipe. Raises UsageError, InputError."""
    if path in STDIN:  # what is read from it could not be read again
        return None
    with FrameFile(path) as file:
        return file.bytes_total


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
