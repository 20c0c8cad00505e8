"""Splitting JSON that is not laid out in lines: arrays, and objects that take several lines each.

A value is returned as its bytes, so numbers, repeated keys and broken characters stay as they are. ijson also reads
JSON piece by piece, but it returns decoded values instead of bytes, and stops at what it cannot decode. Here a value
that is not JSON inside is still a value, and only that value is rejected.
"""

import re

from unique_users.messages.frame import CutLine
from unique_users.producer.lines import Unfinished

# Strings are skipped as a whole. If a quote follows a match, its string does not end in this block.
_STRINGS = rb'(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"%b*+)*+'
_OUTSIDE = rb'[^"{}\[\]]'
_INSIDE_VALUE = re.compile(_OUTSIDE + b"*+" + _STRINGS % _OUTSIDE, re.DOTALL)
_NO_END = rb'[^"{}\[\],\n]'
_INSIDE_SCALAR = re.compile(_NO_END + b"*+" + _STRINGS % _NO_END, re.DOTALL)
_INSIDE_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_BETWEEN = re.compile(rb"[\s,\xef\xbb\xbf]*+")
_QUOTE, _BACKSLASH = b'"\\'
_OPEN, _CLOSE = b"{[", b"}]"
_ARRAY, _ARRAY_END = b"[]"


class JsonValues:
    """Splits blocks of bytes into the values at the root, and the elements of arrays there, wherever a block ends.

    Commas and white space between them are left out. A value too long to keep becomes a CutLine.
    """

    def __init__(self) -> None:
        self._unfinished = Unfinished()
        self._in_array = False
        self._depth = 0  # how many brackets are open in the current value
        self._in_scalar = False  # or in something that is not JSON
        self._in_string = False
        self._escaped = False  # the next byte, which comes with the next block
        self._count = 0

    def feed(self, block: bytes) -> list[bytes]:
        """The values that end in a block; the rest is unfinished."""
        values: list[bytes] = []
        at = begin = 0
        while at < len(block):
            if self._in_string:
                at = self._string(block, at)
            elif self._depth or self._in_scalar:
                at = self._value(block, at)
                if not self._depth and not self._in_scalar:
                    values.append(self._take(block[begin:at]))
            else:
                at = begin = _end_of(_BETWEEN, block, at)
                at = self._between(block, at)
        if self.is_open:
            self._unfinished.add(block[begin:])
        self._count += len(values)
        return values

    def end(self) -> list[bytes]:
        """The last value, if the end of the file ends it. Raises EOFError if a value or an array is unfinished."""
        if self._depth or self._in_string or self._in_array:
            what = "value" if self._depth or self._in_string else "array"
            raise EOFError(f"the end of the {what} is missing, after {self._count:,} whole values")
        return [self._take(b"")] if self._in_scalar else []

    @property
    def is_open(self) -> bool:
        """Whether a value has begun and not ended."""
        return bool(self._depth or self._in_scalar)

    @property
    def is_in_string(self) -> bool:
        """Whether a string has begun and not ended."""
        return self._in_string

    def _string(self, block: bytes, at: int) -> int:
        if self._escaped:
            self._escaped = False
            return at + 1
        at = _end_of(_INSIDE_STRING, block, at)
        if at < len(block):
            self._escaped = block[at] == _BACKSLASH
            self._in_string = self._escaped
        return at + 1

    def _value(self, block: bytes, at: int) -> int:
        at = _end_of(_INSIDE_VALUE if self._depth else _INSIDE_SCALAR, block, at)
        if at == len(block):
            return at
        byte = block[at]
        if byte == _QUOTE:
            self._in_string = True
        elif self._in_scalar:
            self._in_scalar = False
            return at
        else:
            self._depth += 1 if byte in _OPEN else -1
        return at + 1

    def _between(self, block: bytes, at: int) -> int:
        """Begin whatever follows at a place between two values."""
        if at == len(block):
            return at
        byte = block[at]
        if byte == (_ARRAY_END if self._in_array else _ARRAY):
            self._in_array = not self._in_array
        elif byte in _OPEN:
            self._depth = 1
        else:
            self._in_scalar = True
            return at + (byte in _CLOSE)
        return at + 1

    def _take(self, last: bytes) -> bytes:
        self._unfinished.add(last)
        value = self._unfinished.take()
        return value if isinstance(value, CutLine) else value.rstrip()


def _end_of(pattern: "re.Pattern[bytes]", block: bytes, at: int) -> int:
    found = pattern.match(block, at)
    assert found is not None, "it also matches the empty string"
    return found.end()
