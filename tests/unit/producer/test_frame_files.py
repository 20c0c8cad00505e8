import gzip
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from threading import Thread

import pytest
import zstandard

from unique_users.errors import InputError, UsageError
from unique_users.messages.frame import CutLine
from unique_users.producer import decompression, frame_files, lines, source
from unique_users.producer.frame_files import FrameFile
from unique_users.producer.read_ahead import THREAD_NAME

LINES = [b'{"uid":"%d","ts":1468244384,"x":"%s"}' % (n, b"y" * 500) for n in range(2_000)]
TEXT = b"".join(line + b"\n" for line in LINES)

FORMS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], str]:
    """Write a file, whose name says nothing of its form, and return its path."""

    def file(data: bytes) -> str:
        path = tmp_path / "frames.data"
        path.write_bytes(data)
        return str(path)

    return file


def values(path: str) -> list[bytes]:
    with FrameFile(path) as file:
        return list(chain.from_iterable(file))


def until_damage(path: str) -> tuple[list[bytes], InputError | None]:
    """The lines handed out, and the error that ended them."""
    seen: list[bytes] = []
    with FrameFile(path) as file:
        try:
            for lines in file:
                seen += lines
        except InputError as error:
            return seen, error
    return seen, None


@pytest.mark.parametrize("form", FORMS)
def test_the_form_is_told_by_the_content(file: Callable[[bytes], str], form: str) -> None:
    assert values(file(FORMS[form](TEXT))) == LINES


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_files_that_were_compressed_apart_and_put_together_are_read_to_the_end(
    file: Callable[[bytes], str], form: str
) -> None:
    assert values(file(FORMS[form](TEXT) + FORMS[form](b"last\n"))) == [*LINES, b"last"]


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_file_has_no_lines(file: Callable[[bytes], str], form: str) -> None:
    assert values(file(FORMS[form](b""))) == []


def test_line_ends_of_windows_and_blank_lines_are_left_out(file: Callable[[bytes], str]) -> None:
    with FrameFile(file(b"\n\na\r\n\r\n  \t\n b \nc")) as lines:
        assert list(chain.from_iterable(lines)) == [b"a", b" b ", b"c"]
        assert lines.blank_lines == 4
        assert lines.blank_lines_first == 2


@pytest.mark.parametrize("blank", [0, 1, 9])
@pytest.mark.usefixtures("blocks")
def test_the_blank_lines_before_the_first_frame_are_counted_apart(file: Callable[[bytes], str], blank: int) -> None:
    with FrameFile(file(b" \n" * blank + b"a\n\n\nb\n\n")) as lines:
        assert list(chain.from_iterable(lines)) == [b"a", b"b"]
        assert (lines.blank_lines, lines.blank_lines_first) == (blank + 3, blank)


def test_a_line_of_bytes_that_are_no_text_is_kept(file: Callable[[bytes], str]) -> None:
    assert values(file(b"\xff\x00\x80\n\x0b\x0cx\n")) == [b"\xff\x00\x80", b"\x0b\x0cx"]


@pytest.mark.parametrize("form", ["gzip", "zstd"])
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.99])
def test_a_file_that_was_cut_off_is_an_error_after_its_whole_lines(
    file: Callable[[bytes], str], form: str, kept: float
) -> None:
    whole = [b'{"uid":"%d","x":"%d"}' % (n, n * 7919**9) for n in range(20_000)]
    data = FORMS[form](b"\n".join(whole))
    seen, damage = until_damage(file(data[: int(len(data) * kept)]))
    assert damage is not None, f"{len(seen)} of {len(whole)} lines, and no word of the missing ones"
    assert "cut off" in str(damage)
    assert seen == whole[: len(seen)]
    assert len(seen) > 0.5 * kept * len(whole), "what was there is handed out"


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_the_lines_before_the_damage_are_handed_out(file: Callable[[bytes], str], form: str) -> None:
    data = FORMS[form](TEXT) + FORMS[form](TEXT)
    damaged = bytearray(data)
    damaged[-20:] = b"\xff" * 20
    seen, damage = until_damage(file(bytes(damaged)))
    assert damage is not None
    assert seen[: len(LINES)] == LINES


@pytest.fixture
def short_lines(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(lines, "LINE_BYTES_MAX", 10)
    return 10


@pytest.fixture(params=[1, 3, 7, 11, 100, 4_096])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read and handed out by so many bytes at a time."""
    for module, name in (
        (source, "PLAIN_BYTES"),
        (frame_files, "JOINED_BYTES"),
        (decompression, "COMPRESSED_BYTES"),
        (decompression, "UNPACKED_BYTES"),
    ):
        monkeypatch.setattr(module, name, request.param)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_longer_than_the_limit_is_cut_and_says_how_long_it_was(
    file: Callable[[bytes], str], short_lines: int, end: bytes
) -> None:
    seen = values(file(b"a\n" + b"b" * 35 + end + (b"c\n" + b"d" * 12 + end if end else b"")))
    assert seen == [b"a", b"b" * short_lines, *([b"c", b"d" * short_lines] if end else [])]
    cut = [line.bytes_total for line in seen if isinstance(line, CutLine)]
    # Where a block ends between the two bytes of the end of a line that is cut, one of them is counted.
    assert cut[0] - 35 in {0, len(end.strip(b"\n"))}
    assert [total - 12 in {0, len(end.strip(b"\n"))} for total in cut[1:]] == [True] * bool(end)
    assert [type(line) for line in seen[::2]] == [bytes] * len(seen[::2])


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("length", [8, 9, 10])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_as_long_as_the_limit_is_whole(
    file: Callable[[bytes], str], short_lines: int, end: bytes, length: int
) -> None:
    assert length <= short_lines
    seen = values(file(b"b" * length + end + b"c\n"))
    assert seen == [b"b" * length, b"c"]
    assert [type(line) for line in seen] == [bytes, bytes]


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("form", FORMS)
def test_lines_are_the_same_wherever_blocks_end(file: Callable[[bytes], str], form: str) -> None:
    lines = LINES[:40]
    assert values(file(FORMS[form](b"\r\n\n".join(lines)))) == lines


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.FileIO]:
    """What writes to stdin."""
    reader, writer = os.pipe()
    with os.fdopen(reader) as stdin, os.fdopen(writer, "wb", buffering=0) as program:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield program
        program.close()
        # A thread that is still about to read would read from the next pipe, which gets this one's number.
        for thread in threading.enumerate():
            if thread.name == THREAD_NAME:
                thread.join(10)


def test_what_a_pipe_holds_is_handed_out_before_more_comes(pipe: io.FileIO) -> None:
    pipe.write(b"first\nsec")
    with FrameFile("-") as file:
        lines = filter(None, file)
        assert next(lines) == [b"first"]
        pipe.write(b"ond\nthird\n")
        assert next(lines) == [b"second", b"third"]


@pytest.mark.parametrize("form", FORMS)
def test_stdin_is_read_and_told_by_its_content_too(pipe: io.FileIO, form: str) -> None:
    def write() -> None:
        with pipe:
            view = memoryview(FORMS[form](TEXT))
            while view:
                view = view[pipe.write(view) :]

    Thread(target=write).start()
    with FrameFile("-") as lines:
        assert lines.bytes_total is None
        assert list(chain.from_iterable(lines)) == LINES
        assert lines.bytes_read() == 0
    os.fstat(sys.stdin.fileno())  # raises where it was closed


def test_progress_is_counted_in_bytes_of_the_file(file: Callable[[bytes], str]) -> None:
    data = gzip.compress(TEXT)
    with FrameFile(file(data)) as lines:
        assert lines.bytes_total == len(data)
        assert sum(map(len, lines)) == len(LINES)
        assert lines.bytes_read() == len(data)


def test_a_file_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file: name one, or `-` for stdin"):
        FrameFile(str(tmp_path / "missing"))
    with pytest.raises(UsageError, match="is a directory: name the files in it"):
        FrameFile(str(tmp_path))
    with pytest.raises(UsageError, match="the name of a file is empty"):
        FrameFile("")
    with pytest.raises(UsageError, match="cannot be read"):
        FrameFile(str(tmp_path / ("n" * 300)))
