"""Frames from pipes: nothing of them can be read twice, and what they hold shows only when it comes."""

import bz2
import gzip
import io
import os
import subprocess
import zipfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from threading import Thread

import pytest
from repository import ROOT, command

from unique_users.errors import UniqueUsersError
from unique_users.producer.frame_files import FrameFile, FrameFiles

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")

LINES = [b'{"uid":"%d","ts":1468244384}' % number for number in range(3_000)]
TEXT = b"\n".join(LINES) + b"\n"
ARRAY = b"[\n" + b",\n".join(LINES) + b"\n]\n"


def zipped(data: bytes) -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("frames", data)
    return into.getvalue()


PACKS: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, bz2.compress, zipped]


@pytest.fixture
def fifo(tmp_path: Path) -> Callable[..., str]:
    """A pipe with a name, into which bytes are written, so many at a time."""

    def fifo(data: bytes, size: int = 1 << 16, name: str = "fifo") -> str:
        path = tmp_path / name
        os.mkfifo(path)

        def write() -> None:
            with path.open("wb", buffering=0) as pipe:
                view = memoryview(data)
                while view:
                    view = view[pipe.write(view[:size]) :]

        Thread(target=write, daemon=True).start()
        return str(path)

    return fifo


@pytest.mark.parametrize("size", [1 << 16, 700])
@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("text", [TEXT, ARRAY], ids=["lines", "array"])
def test_a_pipe_is_read_whatever_it_holds(
    fifo: Callable[..., str], pack: Callable[[bytes], bytes], text: bytes, size: int
) -> None:
    with FrameFile(fifo(pack(text), size)) as file:
        assert file.bytes_total is None
        assert list(chain.from_iterable(file)) == LINES
        assert file.bytes_read() == 0


def test_a_form_is_told_even_if_its_first_bytes_come_one_by_one(fifo: Callable[..., str]) -> None:
    for number, pack in enumerate([*PACKS][1:3]):
        with FrameFile(fifo(pack(TEXT[:300]), 1, f"fifo{number}")) as file:
            assert b"\n".join(chain.from_iterable(file)) == TEXT[:300]


@pytest.mark.parametrize(
    "data",
    [b"uid,ts\nu0,1\n", "\ufeff[]".encode("utf-16"), b"PAR1\x15", zipped(TEXT)[:40]],
    ids=["CSV", "UTF-16", "Parquet", "zip, cut off"],
)
def test_what_a_pipe_holds_that_is_no_frames_is_refused_when_it_comes(fifo: Callable[..., str], data: bytes) -> None:
    with FrameFile(fifo(data)) as file, pytest.raises(UniqueUsersError):
        assert not any(file)


def test_pipes_and_files_are_read_in_order_and_a_pipe_is_opened_once(fifo: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(TEXT)
    paths = [fifo(gzip.compress(TEXT)), str(tmp_path / "file"), fifo(ARRAY, name="second")]
    with FrameFiles(paths) as files:
        assert files.bytes_total is None
        assert list(chain.from_iterable(files)) == LINES * 3


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0"])
@pytest.mark.parametrize("piped", [True, False])
def test_stdin_has_three_names(tmp_path: Path, name: str, *, piped: bool) -> None:
    file = tmp_path / "frames"
    file.write_bytes(gzip.compress(ARRAY))
    line = [*command("recount", name, "--config", str(ROOT / "config.yaml"))]
    with file.open("rb") as stdin:
        given = subprocess.PIPE if piped else stdin
        process = subprocess.Popen(line, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, said = process.communicate(file.read_bytes() if piped else None)
    assert process.returncode == 0, said
    assert b"3,000 frames read = 3,000 accepted" in said
    assert out.startswith(b"2016-07-11T13:39:00Z")
