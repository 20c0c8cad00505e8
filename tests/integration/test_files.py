"""Files as people have them, through a real broker: what is counted, or why nothing is sent. One row for each case."""

import bz2
import gzip
import io
import json
import os
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from kafka import KafkaConsumer, TopicPartition
from patience import until
from repository import ROOT
from running import Running, parsed

pytestmark = pytest.mark.slow

CASES = ROOT / "tests" / "data" / "cases"
GOOD = CASES / "good.jsonl"
COUNTS = {1_716_200_040: 5, 1_716_200_100: 4, 1_716_200_160: 3}  # see test_the_counts_are_those_of_plain_json
TEXT = GOOD.read_bytes()


class Row(NamedTuple):
    case: str
    kind: str
    frames: int  # acknowledged
    said: str = ""
    code: int = 0


def tarred() -> bytes:
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w:gz") as archive:
        archive.add(GOOD, "good.jsonl")
    return into.getvalue()


def zipped(*names: str) -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, TEXT)
    return into.getvalue()


MADE: dict[str, Callable[[], bytes]] = {
    "two members": lambda: gzip.compress(TEXT[:320]) + gzip.compress(TEXT[320:]),
    "cut.gz": lambda: gzip.compress(TEXT + os.urandom(1_000).hex().encode())[:400],
    "cut.bz2": lambda: bz2.compress(TEXT) + bz2.compress(TEXT)[:40],
    "cut array": lambda: b"[" + b",".join(TEXT.splitlines()),
    "crlf and blank": lambda: b"\r\n" + TEXT.replace(b"\n", b"\r\n\r\n"),
    "tar.gz": tarred,
    "two.zip": lambda: zipped("a", "b"),
    "mac.zip": lambda: zipped("good.jsonl", "__MACOSX/._good.jsonl"),
    "parquet": lambda: b"PAR1" + bytes(500),
    "utf-16": lambda: TEXT.decode().encode("utf-16-be"),
}
PIPED = {
    "good.jsonl.gz",
    "05c_good.zip",
    "11b_array_pretty.json",
    "cut.gz",
    "12b_utf16le.jsonl",
    "22_events.csv",
    "tar.gz",
}
ROWS = [
    Row("good.jsonl", "a line each", 24),
    Row("good.jsonl.gz", "gzip", 24),
    Row("05c_good.zip", "zip", 24),
    Row("13a.jsonl.bz2", "bz2", 24),
    Row("13b.jsonl.xz", "xz", 24),
    Row("two members", "gzip, put together", 24),
    Row("mac.zip", "zip, by macOS", 24),
    Row("11a_array_one_line.json", "array", 24),
    Row("11b_array_pretty.json", "array, pretty", 24),
    Row("11c_jsonl_with_commas.json", "lines with commas", 24),
    Row("12a_bom.jsonl", "with a mark", 24),
    Row("crlf and blank", "lines of Windows", 24),
    Row("cut.gz", "gzip, cut off", 24, "damaged or cut off here", 1),
    Row("cut.bz2", "bz2, cut off", 24, "damaged or cut off here", 1),
    Row("cut array", "array, cut off", 24, "the end of the array is missing, after 24 whole values", 1),
    Row("10_cloudtrail.json", "an array in an object", 0, "jq -c '.Records[]'", 2),
    Row("12b_utf16le.jsonl", "UTF-16", 0, "iconv -f UTF-16 -t UTF-8", 2),
    Row("utf-16", "UTF-16 without a mark", 0, "iconv -f UTF-16BE -t UTF-8", 2),
    Row("22_events.csv", "CSV", 0, "looks like CSV, not JSON", 2),
    Row("tar.gz", "tar", 0, "is a tar archive", 2),
    Row("two.zip", "zip of two", 0, "is a zip archive of 2 files", 2),
    Row("parquet", "Parquet", 0, "is Parquet, not JSON", 2),
]


@pytest.fixture
def source(tmp_path: Path) -> Callable[[str], Path]:
    def source(case: str) -> Path:
        if case not in MADE:
            return CASES / case
        (tmp_path / "made").write_bytes(MADE[case]())
        return tmp_path / "made"

    return source


def run_from(running: Running, script: str, kind: str, path: Path, row: Row) -> subprocess.CompletedProcess[str]:
    """Run a script on a file, on stdin, or on a pipe as the shell makes one."""
    arguments = ["--format", "json"] if script == "recount" else []
    if kind == "file":
        return running.run(script, str(path), *arguments, code=row.code)
    if kind == "stdin":
        return running.run(script, "-", *arguments, stdin=path.read_bytes(), code=row.code)
    line = running.arguments(script, "THE_PIPE", *arguments)
    shell = " ".join(f"<(cat '{path}')" if word == "THE_PIPE" else f"'{word}'" for word in line)
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == row.code, done.stderr
    return done


@pytest.mark.parametrize(
    ("row", "kind"),
    [(row, "file") for row in ROWS] + [(row, kind) for row in ROWS if row.case in PIPED for kind in ("stdin", "fifo")],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_a_file_is_sent_and_counted_or_refused(
    running: Running, source: Callable[[str], Path], row: Row, kind: str
) -> None:
    path = source(row.case)
    done = run_from(running, "producer", kind, path, row)
    again = run_from(running, "recount", kind, path, row)
    for said in (done.stderr, again.stderr):
        assert row.said in said
        assert "Traceback" not in said
    if row.frames or kind != "file":
        assert f"{row.frames:,} frames acknowledged" in done.stderr
    if row.code == 0:
        assert f"{row.frames} frames read = {row.frames} accepted + 0 rejected" in again.stderr
        assert parsed(again.stdout) == COUNTS


def test_several_files_are_replayed_in_order_and_compared_together(running: Running) -> None:
    paths = [str(CASES / name) for name in ("good.jsonl.gz", "11b_array_pretty.json", "13b.jsonl.xz")]
    assert "72 frames acknowledged" in running.run("producer", *paths).stderr
    assert running.counts() == COUNTS
    compared = running.run("recount", *paths, "--against", "counts").stderr
    assert "72 frames read = 72 accepted + 0 rejected" in compared
    assert "exact: no bucket differs\n" in compared


def test_a_wrong_file_among_others_is_told_before_any_is_sent(running: Running) -> None:
    done = running.run("producer", str(GOOD), str(CASES / "22_events.csv"), code=2)
    assert "looks like CSV" in done.stderr
    assert "acknowledged" not in done.stderr


def test_other_published_minutes_are_compared_only_when_asked_for(running: Running, tmp_path: Path) -> None:
    """minutes   10:14  10:15  10:16   11:00 …   │ the file has the first three"""
    later = b"".join(b'{"uid":"x","ts":%d}\n' % (1_716_202_800 + 60 * minute) for minute in range(28))
    (tmp_path / "later").write_bytes(later)
    running.run("producer", str(GOOD), str(tmp_path / "later"))
    running.counts()
    left_out = "; 28 published ones are outside the files' time: --all compares them"
    compared = running.run("recount", str(GOOD), "--against", "counts")
    assert f"exact: no bucket differs{left_out}\n" in compared.stderr
    everything = running.run("recount", str(GOOD), "--against", "counts", "--all", code=1)
    assert "28 of 31 buckets differ\n" in everything.stderr
    other = [line for line in TEXT.splitlines() if b'"u0"' not in line]
    (tmp_path / "other").write_bytes(b"\n".join([*other, b"{}"]))
    differs = running.run("recount", str(tmp_path / "other"), "--against", "counts", code=1)
    assert re.search(r"accepted \+ 1 rejected \(no_uid 1\), 9\d\.\d % accepted\n", differs.stderr)
    assert re.search(r"[123] of 3 buckets differs?, counting the 9", differs.stderr)


def test_ctrl_c_in_the_middle_of_an_array_says_what_was_sent(running: Running) -> None:
    running.run("bucketer", "--until-caught-up")  # makes the topics
    process = running.start("producer", str(CASES / "11b_array_pretty.json"), "--rate", "1")
    partition = TopicPartition(running.topic("feed"), 0)
    with KafkaConsumer(bootstrap_servers=running.broker) as consumer:
        until(
            lambda: consumer.end_offsets([partition])[partition],
            lambda: f"a frame: {running.said('producer')}",
            give_up=lambda: process.poll() is not None,
        )
    assert running.end(process) == 0
    assert "frames acknowledged, stopped before the end" in running.said("producer")
    assert "Traceback" not in running.said("producer")


def test_the_counts_are_those_of_plain_json() -> None:
    users: dict[int, set[str]] = {}
    for line in TEXT.splitlines():
        frame = json.loads(line)
        users.setdefault(frame["ts"] // 60 * 60, set()).add(frame["uid"])
    assert {start: len(uids) for start, uids in users.items()} == COUNTS
