"""How frames are laid out in a file, and what is refused, whatever compresses it and wherever its blocks end."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import zstandard
from repository import ROOT

from unique_users.errors import InputError, UsageError
from unique_users.messages.frame import CutLine
from unique_users.producer import frame_files, lines
from unique_users.producer.frame_files import FrameFile, FrameFiles
from unique_users.producer.json_values import JsonValues
from unique_users.producer.layouts import layout_of
from unique_users.producer.refusals import InputName

CASES = ROOT / "tests" / "data" / "cases"
GOOD = (CASES / "good.jsonl").read_bytes().splitlines()
OBJECTS = [json.loads(line) for line in GOOD]

# What json would change: long numbers, floats, equal keys, half a surrogate pair, escapes, brackets in strings.
EXACT = [
    b'{"uid":"a","n":123456789012345678901234567890,"f":1.10,"e":1e400,"k":1,"k":2}',
    rb'{"uid":"\ud83d","t":"]},[{\"\\","x":{"y":[[],{}]}}',
    b'{"uid":"\xff","bad":}',
    rb'{"u":"\\\\\"","b":"\u005c"}',
]


def zipped(data: bytes, method: int = zipfile.ZIP_DEFLATED, *others: str) -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", method) as archive:
        archive.writestr("frames.jsonl", data)
        for other in others:
            archive.writestr(other, data)
    return into.getvalue()


def tarred(data: bytes, form: int = tarfile.PAX_FORMAT, name: str = "frames.jsonl") -> bytes:
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w", format=form) as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return into.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zip": zipped,
    "zip stored": lambda data: zipped(data, zipfile.ZIP_STORED),
    "zip with bz2": lambda data: zipped(data, zipfile.ZIP_BZIP2),
    "zip of macOS": lambda data: zipped(data, zipfile.ZIP_DEFLATED, "__MACOSX/._frames.jsonl", ".DS_Store"),
    "gzip twice": lambda data: gzip.compress(gzip.compress(data)),
    "gzip in zip": lambda data: zipped(gzip.compress(data)),
}
TEXT = b"\n".join(GOOD) + b"\n"
LAYOUTS = {
    "lines": TEXT,
    "no last line end": TEXT.rstrip(),
    "crlf": TEXT.replace(b"\n", b"\r\n"),
    "blank lines": b"\n \n" + TEXT.replace(b"\n", b"\n\n"),
    "a mark": b"\xef\xbb\xbf" + TEXT,
    "a mark in the middle": b"\xef\xbb\xbf" + TEXT[: 32 * 10] + b"\xef\xbb\xbf" + TEXT[32 * 10 :],
    "an array": b"[" + b",".join(GOOD) + b"]",
    "an array behind a mark and blanks": b"\xef\xbb\xbf\r\n [ " + b" , ".join(GOOD) + b" ] \n",
    "lines with commas": b"[\n" + b",\n".join(GOOD) + b"\n]\n",
    "lines with commas first": b"[" + b"\n,".join(GOOD) + b"\n]\n",
    "lines with brackets and no commas": b"[\n" + b"\n".join(GOOD) + b"\n]\n",
    "lines with commas and no brackets": b",\n".join(GOOD),
    "a comma too many": b"[\n" + b",\n".join(GOOD) + b",\n]\n",
    "an array on each line": b"".join(
        b"[" + one + b"," + two + b"]\n" for one, two in zip(GOOD[::2], GOOD[1::2], strict=True)
    ),
    "arrays put together": b"[" + b",".join(GOOD[:9]) + b"][" + b",".join(GOOD[9:]) + b"]",
    "an array, then lines": b"[" + b",".join(GOOD[:9]) + b"]\n" + b"\n".join(GOOD[9:]),
    "an array, pretty": json.dumps(OBJECTS, indent=2).encode(),
    "an array, pretty, with tabs and crlf": json.dumps(OBJECTS, indent="\t").replace("\n", "\r\n").encode(),
    "objects, pretty": "\n".join(json.dumps(each, indent=4) for each in OBJECTS).encode(),
    "objects, pretty, with commas": ",\n".join(json.dumps(each, indent=1) for each in OBJECTS).encode(),
    "objects, pretty, put together": "".join(json.dumps(each, indent=2) for each in OBJECTS).encode(),
    "objects, commas first": "\n".join(f'{{ "uid": "{o["uid"]}"\n, "ts": {o["ts"]}\n}}' for o in OBJECTS).encode(),
}


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], str]:
    def file(data: bytes) -> str:
        path = tmp_path / "frames.data"
        path.write_bytes(data)
        return str(path)

    return file


def frames(*paths: str) -> list[bytes]:
    with FrameFiles(paths) as file:
        return list(chain.from_iterable(file))


def until_damage(path: str) -> tuple[list[bytes], str]:
    seen: list[bytes] = []
    with FrameFile(path) as file, pytest.raises(InputError) as error:
        seen.extend(chain.from_iterable(file))
    return seen, str(error.value)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("packed", PACKED)
def test_every_layout_gives_the_same_frames_however_it_is_packed(
    file: Callable[[bytes], str], packed: str, layout: str
) -> None:
    found = frames(file(PACKED[packed](LAYOUTS[layout])))
    assert list(map(json.loads, found)) == OBJECTS
    assert "pretty" in layout or "commas first" in layout or [frame.strip() for frame in found] == GOOD


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_it_does_not_matter_where_a_block_ends(layout: str, size: int) -> None:
    text = LAYOUTS[layout]
    found, start, splits = [], b"", None
    for at in range(0, len(text), size):
        block = text[at : at + size]
        if splits is None:
            start += block
            splits = layout_of(start, InputName("f", regular=True), ended=False)
            block = start
        if splits is not None:
            found += splits.feed(block)
    splits = splits or layout_of(start, InputName("f", regular=True), ended=True)
    assert splits is not None
    found += splits.end()
    assert [json.loads(frame) for frame in found if frame.strip()] == OBJECTS


@pytest.mark.parametrize("size", [1, 5, 1_000])
@pytest.mark.parametrize("between", [b",", b"\n,\r\n\t", b"\n"])
def test_the_bytes_of_an_element_stay_what_they_are(size: int, between: bytes) -> None:
    text = b" [" + between.join([*EXACT, b"[1,{}]", b"null", b'"a,]"', b"-1.50"]) + b"]"
    values = JsonValues()
    found = [value for at in range(0, len(text), size) for value in values.feed(text[at : at + size])] + values.end()
    assert found == [*EXACT, b"[1,{}]", b"null", b'"a,]"', b"-1.50"]


def test_an_element_too_long_to_keep_is_cut_and_the_next_one_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE_BYTES_MAX", 20)
    text = b'[{"uid":"%s"},{"uid":"b"}]' % (b"a]" * 500)
    for size in (1, 7, 10_000):
        values = JsonValues()
        cut, whole = [v for at in range(0, len(text), size) for v in values.feed(text[at : at + size])] + values.end()
        assert isinstance(cut, CutLine)
        assert (cut, cut.bytes_total, whole) == (text[1:21], 1_010, b'{"uid":"b"}')


@pytest.mark.parametrize("text", [b"[]", b" [\n] ", b"[][]", b"\xef\xbb\xbf[ ]", b"", b"\n\n", b"\xef\xbb\xbf"])
def test_a_file_without_elements_has_no_frames(file: Callable[[bytes], str], text: bytes) -> None:
    assert frames(file(text)) == []


BROKEN = {
    "a cut line first": b'{"uid":"u0","ts":17\n' + TEXT,
    "a line cut after a comma": b'{"uid":"u0",\n' + TEXT,
    "a line cut in a string": b'{"uid":"u\n' + TEXT,
    "the end of a line first": b'0","ts":1716200041}\n' + TEXT,
    "text first": b"# exported, by hand\n" + TEXT,
    "a number first": b"12\n" + TEXT,
    "log lines": b"[2024-05-20 10:14] INFO\n" + TEXT,
    "bytes first": b"\xff\x01\x80,\n" + TEXT,
    "two on a line": GOOD[0] + GOOD[0] + b"\n" + TEXT,
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_first_line_is_one_frame_and_hides_none(file: Callable[[bytes], str], case: str) -> None:
    found = frames(file(BROKEN[case]))
    assert len(found) == 1 + len(GOOD)
    assert found[1:] == GOOD


CSV = b"uid,ts\nu0,1716200040\nu1,1716200041\n"
REFUSED = {
    "utf-16": ("\ufeff" + TEXT.decode()).encode("utf-16-le"),
    "utf-16 be": ("\ufeff" + TEXT.decode()).encode("utf-16-be"),
    "utf-16 le without a mark": TEXT.decode().encode("utf-16-le"),
    "utf-16 be without a mark": TEXT.decode().encode("utf-16-be"),
    "utf-32": TEXT.decode().encode("utf-32"),
    "utf-32 le without a mark": TEXT.decode().encode("utf-32-le"),
    "utf-32 be without a mark": TEXT.decode().encode("utf-32-be"),
    "utf-16 of an array": "[]".encode("utf-16-le"),
    "tar": tarred(TEXT),
    "tar of 1988": tarred(TEXT, tarfile.USTAR_FORMAT),
    "tar of gnu": tarred(TEXT, tarfile.GNU_FORMAT, "n" * 150),
    "tar of a brace": tarred(TEXT, tarfile.USTAR_FORMAT, "{"),
    "csv": CSV,
    "csv behind a mark": b"\xef\xbb\xbf" + CSV,
    "csv with crlf and quotes": b'"uid","ts"\r\n"u,\r\n0","1716200040"\r\n',
    "tsv": CSV.replace(b",", b"\t"),
    "semicolons": CSV.replace(b",", b";"),
    "csv without rows": b"uid,ts\n",
    "xml": b'<?xml version="1.0"?><a/>',
    "html": b"<!DOCTYPE html>\n<html>",
    "an error of s3": b"<Error><Code>AccessDenied</Code></Error>",
    "git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "records": (CASES / "10_cloudtrail.json").read_bytes(),
    "records, pretty": json.dumps(json.loads((CASES / "10_cloudtrail.json").read_bytes()), indent=2).encode(),
    "parquet": b"PAR1\x15\x04\x15",
    "avro": b"Obj\x01\x04\x16",
    "orc": b"ORC\x08\x03",
    "arrow": b"ARROW1\0\0",
    "sqlite": b"SQLite format 3\0\x10\0",
    "7z": b"7z\xbc\xaf\x27\x1c\0\x04",
    "lz4": b"\x04\x22\x4d\x18\x64\x40",
    "zlib": zlib.compress(TEXT),
    "lzma": lzma.compress(TEXT, lzma.FORMAT_ALONE),
    "pdf": b"%PDF-1.7\n",
    "zip of two": zipped(TEXT, zipfile.ZIP_DEFLATED, "more.jsonl"),
    "zip of none": b"PK\x05\x06" + bytes(18),
    "zip with lzma": zipped(TEXT, zipfile.ZIP_LZMA),
}


@pytest.mark.parametrize("packed", ["plain", "gzip", "zstd", "xz", "zip", "gzip twice"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_frames_is_refused_at_once_in_one_line(file: Callable[[bytes], str], case: str, packed: str) -> None:
    path = file(PACKED[packed](REFUSED[case]))
    with pytest.raises(UsageError) as error:
        FrameFile(path)
    assert str(error.value).startswith(f"{path}: ")
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("case", "packed", "way_out"),
    [
        (
            "utf-16",
            "plain",
            "is text in UTF-16, not UTF-8: pipe in the output of this, with `-` as the file: iconv",
        ),
        ("utf-16", "gzip", "gzip -dc {} | iconv -f UTF-16 -t UTF-8"),
        ("utf-16 be without a mark", "plain", "iconv -f UTF-16BE -t UTF-8 < {}"),
        ("tar", "xz", "is a tar archive: pipe in the output of this, with `-` as the file: xz -dc {} | tar -xOf -"),
        ("csv", "plain", "looks like CSV, not JSON"),
        ("tsv", "zip", 'newline=""), delimiter="\\t")]\''),
        ("records", "plain", "jq -c '.Records[]' < {}"),
        ("parquet", "plain", "is Parquet, not JSON: pipe in the output of this, with `-` as the file: duckdb"),
        ("zip of two", "plain", "is a zip archive of 2 files, and only one can be read"),
        ("zip with lzma", "plain", "7z x -so {}"),
        ("lz4", "plain", "lz4 -dc < {}"),
    ],
)
def test_the_way_out_is_named(file: Callable[[bytes], str], case: str, packed: str, way_out: str) -> None:
    path = file(PACKED[packed](REFUSED[case]))
    with pytest.raises(UsageError) as error:
        FrameFile(path)
    assert way_out.format(path) in str(error.value)


def test_a_wrapper_longer_than_any_frame_is_refused_before_its_end(
    file: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LINE_BYTES_MAX", 10_000)
    monkeypatch.setattr(frame_files, "JOINED_BYTES", 1_000)
    for text in (json.dumps({"a b": OBJECTS * 50}), json.dumps({"a b": OBJECTS * 50}, indent=2)):
        with pytest.raises(UsageError, match="holds nothing but the array 'a b'"):
            FrameFile(file(text.encode()))


@pytest.mark.parametrize("text", [b'{"items":[{"a":1}],"uid":"u","ts":1}\n', b'{"items":[1],"x":2}', b'{"a":[{"b":1]}'])
def test_an_object_that_may_be_a_frame_is_one(file: Callable[[bytes], str], text: bytes) -> None:
    assert frames(file(text)) == [text.rstrip()]


def test_a_file_that_holds_itself_is_refused(file: Callable[[bytes], str]) -> None:
    data = TEXT
    for _ in range(4):
        data = gzip.compress(data)
    with pytest.raises(UsageError, match="is compressed more than 2 times: unpack it first"):
        FrameFile(file(data))


LONG = [b'{"uid":"%d","x":"%d"}' % (n, n * 7919**9) for n in range(20_000)]


@pytest.mark.parametrize("packed", ["gzip", "zstd", "bz2", "xz", "zip", "zip stored", "zip with bz2"])
@pytest.mark.parametrize("layout", ["lines", "array"])
def test_what_stands_before_a_cut_is_given(file: Callable[[bytes], str], packed: str, layout: str) -> None:
    text = b"\n".join(LONG) if layout == "lines" else b"[" + b",".join(LONG) + b"]"
    data = PACKED[packed](text)
    seen, said = until_damage(file(data[: len(data) * 3 // 4]))
    assert seen == LONG[: len(seen)]
    assert len(seen) > 4_000
    assert "damaged or cut off here" in said


@pytest.mark.parametrize("packed", ["gzip", "bz2", "xz", "zip", "zip with bz2"])
def test_what_stands_before_a_damage_is_given(file: Callable[[bytes], str], packed: str) -> None:
    data = bytearray(PACKED[packed](b"\n".join(LONG)))
    place = len(data) * 3 // 4
    data[place : place + 40] = b"\xff" * 40
    seen, said = until_damage(file(bytes(data)))
    assert seen[:4_000] == LONG[:4_000]
    assert "damaged or cut off here" in said


@pytest.mark.parametrize("text", [b'[{"uid":"a"},{"uid":"b"', b'[{"uid":"a"}', b'{\n"uid":"a"}{"uid":"b'])
def test_json_that_is_cut_off_gives_its_whole_values(file: Callable[[bytes], str], text: bytes) -> None:
    seen, said = until_damage(file(text))
    assert len(seen) == 1
    assert "is missing, after 1 whole values" in said


@pytest.mark.parametrize("packed", ["bz2", "xz"])
def test_streams_put_together_are_read_to_the_end_and_what_follows_them_is_told(
    file: Callable[[bytes], str], packed: str
) -> None:
    pack = PACKED[packed]
    parts = [TEXT[:320], TEXT[320:]]
    assert frames(file(bytes(4).join(map(pack, parts)) + bytes(8))) == GOOD
    seen, _ = until_damage(file(pack(TEXT) + b"garbage"))
    assert seen == GOOD


def test_xz_that_needs_much_memory_is_refused(file: Callable[[bytes], str]) -> None:
    data = lzma.compress(TEXT, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}])
    at = data.index(b"\x21\x01") + 2  # the size of the dictionary, before the header's checksum
    changed = bytearray(data)
    changed[at] = 34  # 1 GiB
    changed[20:24] = zlib.crc32(changed[12:20]).to_bytes(4, "little")
    seen, said = until_damage(file(bytes(changed)))
    assert seen == []
    assert "of memory to be unpacked: compress it with a smaller dictionary" in said


def test_files_are_read_in_order_and_a_wrong_one_is_told_before_any(tmp_path: Path) -> None:
    one, two, wrong = (tmp_path / name for name in ("one", "two", "wrong"))
    one.write_bytes(gzip.compress(b"\n".join(GOOD[:9])))
    two.write_bytes(b"[" + b",".join(GOOD[9:]) + b"]")
    wrong.write_bytes(CSV)
    assert frames(str(one), str(two), str(one)) == [*GOOD, *GOOD[:9]]
    with pytest.raises(UsageError, match="looks like CSV"):
        FrameFiles([str(one), str(wrong)])
    with pytest.raises(UsageError, match="no such file"):
        FrameFiles([str(one), str(tmp_path / "missing")])
    with pytest.raises(UsageError, match="stdin can be read only once"):
        FrameFiles(["-", str(one), "/dev/stdin"])


def test_the_files_after_a_damaged_one_are_not_read_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "damaged").write_bytes(gzip.compress(TEXT)[:-3])
    (tmp_path / "good").write_bytes(TEXT)
    seen: list[bytes] = []
    paths = [str(tmp_path / name) for name in ("damaged", "good", "good")]
    with FrameFiles(paths) as files, pytest.raises(InputError, match="; the 2 files after it are not read"):
        seen.extend(chain.from_iterable(files))
    assert seen == GOOD
    with FrameFiles(paths[:2]) as files, pytest.raises(InputError, match="; the file after it is not read"):
        list(files)
