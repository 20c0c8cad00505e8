import gzip
import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from unique_users import frame_files
from unique_users.errors import InputError, UsageError
from unique_users.frame_files import FrameFile
from unique_users.frames import Line

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
    with FrameFile(path) as lines:
        return [line.value for line in lines]


def until_damage(path: str) -> tuple[list[bytes], InputError | None]:
    """The lines handed out, and the error that ended them."""
    seen: list[bytes] = []
    with FrameFile(path) as lines:
        try:
            for line in lines:
                seen.append(line.value)  # noqa: PERF401 (what came before the error is what is asked for)
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
        assert list(lines) == [Line(b"a", 1), Line(b" b ", 3), Line(b"c", 1)]
        assert lines.blank_lines == 4


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
    monkeypatch.setattr(frame_files, "LINE_BYTES_MAX", 10)
    return 10


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_longer_than_the_limit_is_cut_and_says_how_long_it_was(
    file: Callable[[bytes], str], short_lines: int, end: bytes
) -> None:
    with FrameFile(file(b"a\n" + b"b" * 35 + end + (b"c\n" if end else b""))) as lines:
        found = list(lines)
    assert found[:2] == [Line(b"a", 1), Line(b"b" * short_lines, 35)]
    assert found[2:] == ([Line(b"c", 1)] if end else [])


@pytest.mark.parametrize("length", [8, 9, 10])
def test_a_line_as_long_as_the_limit_is_whole(file: Callable[[bytes], str], short_lines: int, length: int) -> None:
    assert length <= short_lines
    with FrameFile(file(b"b" * length + b"\nc\n")) as lines:
        assert list(lines) == [Line(b"b" * length, length), Line(b"c", 1)]


def test_stdin_is_read_and_told_by_its_content_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for form in FORMS.values():
        stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(form(TEXT))))
        monkeypatch.setattr(sys, "stdin", stdin)
        with FrameFile("-") as lines:
            assert lines.bytes_total is None
            assert [line.value for line in lines] == LINES
            assert lines.bytes_read() == 0
        assert not stdin.buffer.closed


def test_progress_is_counted_in_bytes_of_the_file(file: Callable[[bytes], str]) -> None:
    data = gzip.compress(TEXT)
    with FrameFile(file(data)) as lines:
        assert lines.bytes_total == len(data)
        assert sum(1 for _ in lines) == len(LINES)
        assert lines.bytes_read() == len(data)


def test_a_file_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file: name one, or `-` for stdin"):
        FrameFile(str(tmp_path / "missing"))
    with pytest.raises(InputError, match="cannot be read"):
        FrameFile(str(tmp_path))
