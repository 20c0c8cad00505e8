"""A file of one endless line or value takes little memory, however small it is when it is compressed."""

import bz2
import gzip
import lzma
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

LINE_BYTES = 300_000_000
PIECE_BYTES = 1_000_000
GROWTH_MB_MAX = 150  # generous: it is 64 that is wanted

CHILD = """
import sys
import zipfile
from itertools import chain
from brokers import config_for
from unique_users.producer.frame_files import FrameFile
from unique_users.queries.recount import recount

def peak_mb():
    # The kernel's own mark for this program: getrusage() would also know what its parent took before.
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

before = peak_mb()
with FrameFile(sys.argv[1]) as file:
    counts = recount(chain.from_iterable(file), config_for("localhost:1"), 0).counts
print(counts.read, dict(counts.rejected), peak_mb() - before)
"""


def write_plain(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(LINE_BYTES)


def write_gzip(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(LINE_BYTES // PIECE_BYTES):
            file.write(bytes(PIECE_BYTES))


def write_zstd(path: Path) -> None:
    with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as writer:
        for _ in range(LINE_BYTES // PIECE_BYTES):
            writer.write(bytes(PIECE_BYTES))


def write_bz2(path: Path) -> None:
    path.write_bytes(bz2.compress(bytes(LINE_BYTES // 20)) * 10)


def write_xz(path: Path) -> None:
    path.write_bytes(lzma.compress(bytes(LINE_BYTES // 20), preset=0) * 10)


def write_zip(path: Path) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("line", "w") as file,
    ):
        for _ in range(LINE_BYTES // PIECE_BYTES):
            file.write(bytes(PIECE_BYTES))


def write_array(path: Path) -> None:
    """An element, most of which is a string."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'[{"x":"')
        for _ in range(LINE_BYTES // PIECE_BYTES // 2):
            file.write(b"]" * PIECE_BYTES)
        file.write(b'"}]')


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory from /proc")
@pytest.mark.parametrize(
    ("write", "piped"),
    [
        (write_plain, False),
        *((write, piped) for write in (write_gzip, write_zstd, write_zip) for piped in (False, True)),
        *((write, False) for write in (write_bz2, write_xz, write_array)),
    ],
)
def test_one_line_of_hundreds_of_megabytes_takes_little_memory(
    tmp_path: Path, write: Callable[[Path], None], *, piped: bool
) -> None:
    file = tmp_path / "line"
    write(file)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, "-" if piped else str(file)],
        input=file.read_bytes() if piped else b"",
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr.decode()
    *counts, growth = done.stdout.decode().split()
    assert counts == ["1", "{'too_large':", "1}"]
    assert float(growth) < GROWTH_MB_MAX
