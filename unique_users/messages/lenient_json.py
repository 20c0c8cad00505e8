"""A JSON decoder for what msgspec refuses: characters may be broken in strings that nobody reads. Pure."""

import json
import math

_DIGITS_MAX = 4_000  # of an integer; Python's int() takes 4,300


def text_of(raw: bytes) -> str:
    """The characters of `raw`; a byte that is not UTF-8 becomes half of a surrogate pair, and can be encoded again."""
    return raw.decode("utf-8", "surrogateescape")


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= _DIGITS_MAX else math.inf


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# Refuses NaN and Infinity, which the standard library accepts.
DECODER = json.JSONDecoder(parse_int=_integer, parse_constant=_refuse_constant)
