"""Messages that hold several frames: a JSON array, one JSON value per line, or values one after the other. Pure."""

import re
from collections.abc import Callable

import msgspec

from unique_users.messages.lenient_json import DECODER, text_of

_WHITESPACE = b" \t\r\n"
_IN_A_ROW_BYTES_MAX = 1_048_576  # of a message whose values follow each other without line ends, which is slow to read
_SURROGATE = rb"u[dD][89a-fA-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(rb"\\(?:(" + _SURROGATE + rb")|.)", re.DOTALL)
_elements: Callable[[bytes], list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw]).decode
_value: Callable[[bytes], msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw).decode
_DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def elements_of(message: bytes) -> list[bytes] | None:
    """The JSON values of a message that holds several; None for any other message, including an empty array.

    Values in an array or on lines of their own are not checked one by one, so some may not be JSON. Values that follow
    each other on a line are split only if the whole line is JSON.
    """
    if message.lstrip(_WHITESPACE)[:1] == b"[":
        elements = _in_array(message)
        if elements is not None:
            return elements or None
    lines = [line for line in (line.strip(_WHITESPACE) for line in message.split(b"\n")) if line]
    if len(lines) > 1 and _is_value(lines[0]):
        return [element for line in lines for element in _on_line(line)]
    return _in_a_row(message) if len(message) <= _IN_A_ROW_BYTES_MAX else None


def _on_line(line: bytes) -> list[bytes]:
    if line[:1] == b"[":
        found = _in_array(line)
        return [line] if found is None else found
    return (None if _is_value(line) else _in_a_row(line)) or [line]


def _in_array(message: bytes) -> list[bytes] | None:
    readable = _with_whole_characters(message)
    try:
        found = [bytes(element) for element in _elements(readable)]
    except _DECODE_ERRORS:
        return None
    if readable is message:
        return found
    elements, at = [], 0
    for element in found:  # each is as long as it was
        at = readable.index(element, at)
        elements.append(message[at : at + len(element)])
        at += len(element)
    return elements


def _in_a_row(message: bytes) -> list[bytes] | None:
    text = text_of(message).strip(" \t\r\n")
    elements, at = [], 0
    while at < len(text):
        try:
            _, end = DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return None
        elements.append(text[at:end].encode("utf-8", "surrogateescape"))
        at = end
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
    return elements if len(elements) > 1 else None


def _is_value(line: bytes) -> bool:
    try:
        _value(_with_whole_characters(line))
    except _DECODE_ERRORS:
        return False
    return True


def _with_whole_characters(message: bytes) -> bytes:
    """A copy of equal length in which other characters replace halves of surrogate pairs, which msgspec refuses."""
    if b"\\u" not in message:
        return message
    return _ESCAPE.sub(lambda match: rb"\ufffd" if match[1] else match[0], message)
