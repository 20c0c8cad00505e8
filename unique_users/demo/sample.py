"""Sample streams: frames of about 2 KB that resemble real ones where it matters, the same ones for the same seed.

User and time may be anywhere among the root's keys, and nested objects hold decoys of both names. Some frames are late,
users come back, strings hold escapes and Cyrillic. Every frame is valid: none belongs in `rejected`.
"""

import gzip
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeVar

START = 1_704_116_240  # 2024-01-01T13:37:20Z
LATE_SHARE = 0.03
LATE_SECONDS_MAX = 100
BODIES = 2_000  # the parts around user and time are drawn from this many
BODY_CHARACTERS = 1_850  # a body this long gets no more members
DEPTH_MAX = 3

# Python promises the same `random()` for a seed in every version, and nothing more: everything is derived from it.
Draw = Callable[[], float]
Item = TypeVar("Item")


class _Body(NamedTuple):
    """A frame without its user and its time."""

    before: bytes
    between: bytes
    after: bytes
    uid_first: bool


def frames(count: int, users: int = 20_000, seconds: int = 360, seed: int = 1, start: int = START) -> Iterator[bytes]:
    """Make `count` frames of up to `users` users, spread over `seconds` of event time from epoch second `start` on.

    About 3 % of the frames are 1 to 100 seconds late. Takes a few megabytes, however many frames are made.
    """
    draw = _draw(seed)
    bodies = _bodies(seed)
    for number in range(count):
        before, between, after, uid_first = bodies[int(draw() * BODIES)]
        uid = b"%019x" % _scattered(int(draw() * users))
        time = start + number * seconds // count
        if draw() < LATE_SHARE:
            time -= 1 + int(draw() ** 2 * LATE_SECONDS_MAX)
        ts = b"%d" % time
        yield b"".join((before, uid, between, ts, after) if uid_first else (before, ts, between, uid, after))


def write_sample(path: Path, count: int = 30_000) -> None:
    """Write `count` frames as gzip lines to `path`, which appears only when complete. The same frames every time."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            packed = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
            with io.BufferedWriter(packed, 1 << 20) as lines:
                lines.writelines(frame + b"\n" for frame in frames(count))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _scattered(number: int) -> int:
    """A number of 76 bits, different for every `number`: multiplying by an odd factor loses nothing."""
    return (number + 1) * 0xB5AD4ECEDA1CE2A9D1B % (1 << 76)


_TEXTS = (
    "the kettle is older than the kitchen it stands in",
    "seven parcels wait at the north gate",
    'a sign reads "mind the geese" in two languages',
    "rain at four, clear by supper\nbring the long coat",
    "column\tof\tfigures\tcopied\tby\thand",
    "C:\\letters\\drafts\\march\\third.txt",
    "lamp/oil/wick/match",
    "the ferry leaves when the baker has boarded",
    "корзина яблок стоит за дверью",
    "поезд пришёл на минуту раньше",
    "кот спит на тёплой печке",
    "naïve café, 12 €, ½ portion, done ✓",
    "tail of a page\r\nhead of the next",
    "no news from the lighthouse since Tuesday",
)
_KEYS = (
    *("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty", "knoll"),
    *("ledge", "marsh", "north", "ochre", "pearl", "quill", "reeds", "shale", "tulip", "umber", "vapor"),
    *("книга", "озеро", "мост", "a key with spaces"),
)
_AS_ASCII = json.JSONEncoder(separators=(",", ":"))
_AS_UTF8 = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
_WRONG_USERS: tuple[Any, ...] = (None, 17, False, [], {}, ["3f"], {"uid": "0f0f"}, 0.5)
_WRONG_TIMES: tuple[Any, ...] = (None, True, [], {}, "yesterday", ["12:30"], {"ts": "noon"}, {"ts": 3})


def _draw(seed: int) -> Draw:
    return Random(seed).random  # noqa: S311 - reproducible, not secret


@lru_cache(maxsize=1)
def _bodies(seed: int) -> Sequence[_Body]:
    draw = _draw(seed)
    return [_body(draw) for _ in range(BODIES)]


def _body(draw: Draw) -> _Body:
    members: list[str] = []
    while sum(map(len, members)) < BODY_CHARACTERS:
        # About every second member is written with escapes for non-ASCII characters.
        encode = _one_of((_AS_ASCII, _AS_UTF8), draw).encode
        members.append(encode({f"{_one_of(_KEYS, draw)} {len(members)}": _value(draw, 1)})[1:-1])
    for member in '"uid":"\0"', '"ts":\0':
        members.insert(int(draw() * (len(members) + 1)), member)
    before, between, after = ("{" + ",".join(members) + "}").encode().split(b"\0")
    return _Body(before, between, after, before.endswith(b'"uid":"'))


def _value(draw: Draw, depth: int) -> Any:
    kinds = (_object, _list, _scalar, _text, _text, _text, _text) if depth < DEPTH_MAX else (_scalar, _text)
    return _one_of(kinds, draw)(draw, depth + 1)


def _object(draw: Draw, depth: int) -> dict[str, Any]:
    members = {_one_of(_KEYS, draw): _value(draw, depth) for _ in range(int(draw() * 5))}
    return members | _one_of(({}, {"uid": _one_of(_WRONG_USERS, draw)}, {"ts": _one_of(_WRONG_TIMES, draw)}), draw)


def _list(draw: Draw, depth: int) -> list[Any]:
    return [_value(draw, depth) for _ in range(int(draw() * 4))]


def _scalar(draw: Draw, _depth: int) -> float | bool | None:
    return _one_of((None, True, False, int(draw() * 1000), round(draw(), 6)), draw)


def _text(draw: Draw, _depth: int) -> str:
    return _one_of(_TEXTS, draw)


def _one_of(items: Sequence[Item], draw: Draw) -> Item:
    return items[int(draw() * len(items))]
