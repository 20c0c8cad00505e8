"""How frames are laid out in text: in lines, or as JSON in another layout. What does not hold frames is refused.

The layout is recognised by the start of the text, without waiting for more of a pipe than that takes.
"""

import csv
import io
import re
from itertools import islice

import msgspec

from unique_users.errors import UsageError
from unique_users.messages.frame import CutLine
from unique_users.producer import lines
from unique_users.producer.json_values import JsonValues
from unique_users.producer.lines import MARK, Lines
from unique_users.producer.refusals import InputName, refused_table, refused_text, refused_wrapper

Splitter = Lines | JsonValues

TABLE_BYTES = 64 * 1024  # where the first two rows of a CSV file are looked for
_TAR_BYTES = 512  # of a tar archive's first header
_TAR_SUM = slice(148, 156)
_MARKS = {  # the longer ones first
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
# Which bytes are zero in text that begins with two ASCII characters, as JSON does.
_ZEROS = {
    (False, True) * 2: "UTF-16LE",
    (True, False) * 2: "UTF-16BE",
    (False, True, True, True): "UTF-32LE",
    (True, True, True, False): "UTF-32BE",
}
_SHORTEST = 4  # bytes that reveal the encoding
_WRAPPER = re.compile(rb'\{\s*"((?:[^"\\]|\\.)*+)"\s*:\s*\[\s*\{', re.DOTALL)
_MARKUP = re.compile(rb"<[a-z?!]", re.IGNORECASE)
_MARKUP_BYTES = 2


def layout_of(start: bytes, origin: InputName, *, ended: bool) -> Splitter | None:
    """What splits the text that starts like this; None if the start is too short to tell and the text has not ended.

    Raises UsageError if it is not UTF-8 text or does not hold frames.
    """
    if not ended and len(start) < _SHORTEST and (b"\n" not in start or b"\0" in start):
        return None
    if b"\0" in start[:_TAR_BYTES]:
        if not ended and len(start) < _TAR_BYTES:
            return None
        _refuse_tar(start, origin)
    _refuse_encodings(start, origin)
    text = start.removeprefix(MARK).lstrip()
    ended = ended or len(start) > lines.LINE_BYTES_MAX + _TAR_BYTES
    if not text:
        return Lines() if ended else None
    told = {b"{": _object, b"[": _array, b"<": _markup}.get(text[:1], _other)
    return told(text, origin, ended=ended)


def _refuse_tar(start: bytes, origin: InputName) -> None:
    header = start[:_TAR_BYTES]
    try:
        expected = int(header[_TAR_SUM].strip(b" \0"), 8)
    except ValueError:
        return
    if len(header) == _TAR_BYTES and expected == sum(header) - sum(header[_TAR_SUM]) + 8 * ord(" "):
        raise origin.refused("is a tar archive", "tar -xOf -")


def _refuse_encodings(start: bytes, origin: InputName) -> None:
    for mark, encoding in _MARKS.items():
        if start.startswith(mark):
            raise refused_text(encoding, origin)
    zeros = tuple(byte == 0 for byte in start[:_SHORTEST])
    if zeros in _ZEROS:
        raise refused_text(_ZEROS[zeros], origin)


def _object(text: bytes, origin: InputName, *, ended: bool) -> Splitter | None:
    line, end, rest = text.partition(b"\n")
    if not end and not ended:
        return None
    scan = JsonValues()
    values = scan.feed(line)
    if values and not scan.is_open:
        _refuse_wrapper(values[0], origin)
        return JsonValues() if line.rstrip().endswith(b",") else Lines()
    follows = rest.lstrip()[:1]
    if not scan.is_in_string and not follows and not ended:
        return None
    if not values and len(text) > lines.LINE_BYTES_MAX:
        _refuse_long_wrapper(text, origin)
    if scan.is_in_string or not _is_laid_out(line.rstrip()[-1:], follows):
        return Lines()
    if values := scan.feed(b"\n" + rest):
        _refuse_wrapper(values[0], origin)
    return JsonValues() if values or ended else None


def _is_laid_out(last: bytes, follows: bytes) -> bool:
    """Whether a value continues after a line that ends with `last` if `follows` is next; else the line is broken."""
    if follows == b"{":
        return last in {b"[", b":"}
    return follows in {b"}", b"]", b","} or last in {b"{", b"[", b",", b":"}


def _refuse_wrapper(value: bytes, origin: InputName) -> None:
    if isinstance(value, CutLine):
        _refuse_long_wrapper(value, origin)
    elif found := _WRAPPER.match(value):
        try:
            keys = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if len(keys) == 1:
            raise refused_wrapper(found[1].decode(errors="replace"), origin)


def _refuse_long_wrapper(text: bytes, origin: InputName) -> None:
    """Refuse a value that is longer than any frame and begins like a wrapper."""
    if found := _WRAPPER.match(text):
        raise refused_wrapper(found[1].decode(errors="replace"), origin)


def _array(text: bytes, _origin: InputName, *, ended: bool) -> Splitter | None:
    first = text[1:].lstrip()[:1]
    if not first and not ended:
        return None
    return JsonValues() if first in {b"{", b"[", b"]"} else Lines()


def _markup(text: bytes, origin: InputName, *, ended: bool) -> Splitter | None:
    if len(text) < _MARKUP_BYTES and b"\n" not in text and not ended:
        return None
    if _MARKUP.match(text):
        message = f"{origin.path}: is XML or HTML, not JSON: export it as JSON, one object per line"
        raise UsageError(message)
    return Lines()


def _other(text: bytes, origin: InputName, *, ended: bool) -> Splitter | None:
    ended = ended or len(text) > TABLE_BYTES
    line, end, _ = text.partition(b"\n")
    if not end and not ended:
        return None
    delimiter = max(",;\t|", key=lambda delimiter: line.count(delimiter.encode()))
    if delimiter.encode() not in line or b"{" in line or b"}" in line:
        return Lines()
    rows = _rows(text[:TABLE_BYTES], delimiter, ended=ended)
    if len(rows) == 1 and not ended:
        return None
    if all(rows[0]) and len({len(row) for row in rows}) == 1 and not rows[-1][0].startswith(("{", "[")):
        raise refused_table(delimiter, origin)
    return Lines()


def _rows(text: bytes, delimiter: str, *, ended: bool) -> list[list[str]]:
    """The first two rows that are not blank, as far as they have arrived."""
    whole = text if ended else text[: text.rindex(b"\n") + 1]
    try:
        rows = csv.reader(io.StringIO(whole.decode(errors="replace"), newline=""), delimiter=delimiter)
        return list(islice(filter(None, rows), 2))
    except csv.Error:
        return [[""]]
