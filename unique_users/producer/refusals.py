"""Files that do not hold frames: what they are, and the command that turns them into frames."""

import shlex
from dataclasses import dataclass, field
from typing import NamedTuple

from unique_users.errors import UsageError

_TO_JSON_LINES = (
    "python -c 'import csv, json; [print(json.dumps(row)) for row in"
    ' csv.DictReader(open(0, encoding="utf-8-sig", newline=""){delimiter})]\''
)


@dataclass
class InputName:
    """Where frames come from, and the tools that would unpack it as far as it has been unpacked here."""

    path: str
    regular: bool  # a file that can be read again, not a pipe
    tools: list[str] = field(default_factory=list)

    def refused(self, what: str, command: str) -> UsageError:
        """The error that says what it is, and the command that turns it into frames; `command` reads stdin."""
        if not self.regular:
            return self._refused(what, f"… | {command}")
        if not self.tools:
            return self._refused(what, f"{command} < {shlex.quote(self.path)}")
        first, *others = self.tools
        return self._refused(what, " | ".join([f"{first} {shlex.quote(self.path)}", *others, command]))

    def refused_file(self, what: str, command: str) -> UsageError:
        """As `refused`; `command` names the file as {file}, since the tool does not read stdin."""
        there = self.regular and not self.tools
        return self._refused(what, command.replace("{file}", shlex.quote(self.path) if there else "FILE"))

    def _refused(self, what: str, command: str) -> UsageError:
        return UsageError(f"{self.path}: {what}: pipe in the output of this, with `-` as the file: {command}")


class _Binary(NamedTuple):
    start: bytes
    what: str
    command: str  # reads stdin, or names the file as {file}


_BINARIES = [
    _Binary(b"PAR1", "Parquet", "duckdb -c \"copy (from '{file}') to '/dev/stdout' (format json)\""),
    _Binary(b"Obj\x01", "Avro", "avro-tools tojson {file}"),
    _Binary(b"ORC", "ORC", "orc-contents {file}"),
    _Binary(b"SQLite format 3\0", "an SQLite database", "sqlite3 -json {file} 'select * from TABLE'"),
    _Binary(b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x -so {file}"),
    _Binary(b"Rar!\x1a\x07", "a RAR archive", "unrar p -inul {file}"),
    _Binary(b"\x04\x22\x4d\x18", "compressed with lz4", "lz4 -dc"),
    _Binary(b"\x02\x21\x4c\x18", "compressed with lz4", "lz4 -dc"),
    _Binary(b"\xff\x06\x00\x00sNaPpY", "compressed with snappy", "snzip -dc -t framing2"),
    _Binary(b"\x89LZO\0", "compressed with lzop", "lzop -dc"),
    _Binary(b"LZIP", "compressed with lzip", "lzip -dc"),
    _Binary(b"\x5d\x00\x00", "compressed with lzma", "xz --format=lzma -dc"),
    _Binary(b"version https://git-lfs.github.com/spec/", "a pointer to a file in Git LFS", "git lfs smudge"),
    _Binary(b"\x1f\x9d", "compressed with compress", "gzip -dc"),
    *(
        _Binary(
            start,
            "compressed with zlib",
            "python -c 'import sys, zlib; sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read()))'",
        )
        for start in (b"x\x01", b"x\x9c", b"x\xda")
    ),
]
# What no single command can convert.
_OTHERS = {
    b"%PDF": "a PDF",
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"\x93NUMPY": "a NumPy array",
    b"SEQ\x06": "a Hadoop SequenceFile",
    b"ARROW1": "Arrow",
    b"FEA1": "Feather",
    b"PGDMP": "a PostgreSQL dump",
    b"REDIS0": "a Redis dump",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Office document",
    b"\x89PNG\r\n\x1a\n": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"\x7fELF": "a program",
    b"\xca\xfe\xba\xbe": "a program",
    b"\x80\x02}": "a pickle",
    b"\x80\x03}": "a pickle",
    b"\x80\x04\x95": "a pickle",
    b"\x80\x05\x95": "a pickle",
}
STARTS = [binary.start for binary in _BINARIES] + list(_OTHERS)


def refuse_binary(start: bytes, origin: InputName) -> None:
    """Raise UsageError if a file that starts like this has a known binary format."""
    for binary in _BINARIES:
        if start.startswith(binary.start):
            refused = origin.refused_file if "{file}" in binary.command else origin.refused
            raise refused(f"is {binary.what}, not JSON", binary.command)
    for other, what in _OTHERS.items():
        if start.startswith(other):
            message = f"{origin.path}: is {what}, not JSON: export it as JSON, one object per line"
            raise UsageError(message)


def refused_text(encoding: str, origin: InputName) -> UsageError:
    """The error for text in an encoding other than UTF-8."""
    return origin.refused(f"is text in {encoding}, not UTF-8", f"iconv -f {encoding} -t UTF-8")


def refused_table(delimiter: str, origin: InputName) -> UsageError:
    """The error for CSV."""
    named = "" if delimiter == "," else f", delimiter={delimiter!r}".replace("'", '"')
    what = f"looks like CSV{'' if delimiter == ',' else f' with {delimiter!r} between its fields'}, not JSON"
    return origin.refused(what, _TO_JSON_LINES.replace("{delimiter}", named))


def refused_wrapper(key: str, origin: InputName) -> UsageError:
    """The error for an object that holds nothing but an array of objects; `key` keeps its JSON escapes."""
    path = f".{key}[]" if key.isidentifier() and key.isascii() else f'.["{key}"][]'
    return origin.refused(f"is one object that holds nothing but the array {key!r}", f"jq -c {shlex.quote(path)}")
