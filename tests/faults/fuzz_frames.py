"""Fuzz the frame parser, guided by coverage: python tests/faults/fuzz_frames.py [--minutes 10] [--seed N].

Three promises are held, the second against the recount's own reader, which uses `json` alone: nothing is ever raised;
exactly those frames are taken that the rules of docs/frames.md take, with the same user and time, and the others for
the same reason, in every format; and a message among many gets the same answer as alone.

It uses atheris when that is installed, which also guides by comparisons in native code; without it a loop of mutations
that keeps what reaches new lines of the parser. Exit code 1 when a promise is broken; the input is printed.
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from random import Random, SystemRandom
from types import FrameType, FunctionType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import repository  # noqa: F401 - finds the product
from corpus import wrong_frames
from real_frames import REAL_FRAMES

from unique_users.messages import elements, event_times, fields, frame_parser, lenient_json, typical_frames, user_ids
from unique_users.messages.event_times import UNITS, EventTimes
from unique_users.messages.fields import Field
from unique_users.messages.frame import BadFrameError, FrameFormat, Reason
from unique_users.messages.frame_parser import FrameParser, Parsed
from unique_users.messages.typical_frames import TypicalFrames
from unique_users.queries.plain_frames import frames_in

INPUT_BYTES_MAX = 4_096
PRODUCT_FILES = {
    module.__file__ for module in (elements, event_times, fields, frame_parser, lenient_json, typical_frames, user_ids)
}
DICTIONARY = (
    *(
        b'"uid"',
        b'"ts"',
        b'"uid":',
        b'"ts":',
        b"1704116384",
        b"1704116384.5",
        b'"1704116384"',
        b"null",
        b"true",
        b"NaN",
    ),
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u0000", b"\\ud800", b"\\udc00", b"\\u0075id", b"1e5", b"-0"),
    *(
        b'"a":{',
        b'"a.uid":"x",',
        b'"a":',
        b"\n",
        b"}\n{",
        b"}{",
        b"\0\0\0\0\1",
        b"[{",
        b"},{",
        b"1704116384123",
        b"1704116384123456789",
        b"12345678901234567890123",
        b"2024-01-01 13:39:44.5 UTC",
        b"2024-10-27T02:30:60",
        b"+0000",
        b" +02:00",
        b"[UTC]",
        b"2024-01-01T13:39:44Z",
        b"2024-01-01 13:39+02:00",
        b"24:00:00",
        b"\xff",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
    ),
    *(b"99999999999999999999", b"1e308", b"1e999", b"-1", b"253402300799", b"253402300800", b"0.1", b"\xd9\xa1"),
)
FORMATS = [
    FrameFormat(),
    FrameFormat(ts_unit="ms", ts_min=date(2000, 1, 1)),
    FrameFormat(ts_unit="us", timezone="UTC"),
    FrameFormat(ts_unit="ns", timezone="Europe/Berlin", ts_min=date(2000, 1, 1)),
    FrameFormat(uid="a.uid", ts="a.ts"),
    FrameFormat(uid=["uid", "a.b.uid"], ts=["ts", "a.ts"]),
    FrameFormat(uid=["a.uid", "a", "uid"], ts="ts", registry_framing="json", bytes_max=200),
]
_parsers = [FrameParser(form) for form in FORMATS]
_FRAMES = [
    json.dumps({"uid": "u", "ts": 1704116384 * UNITS[form.ts_unit], "a": {"uid": "u", "ts": 1704116384}}).encode()
    for form in FORMATS
]


class BrokenPromiseError(Exception):
    """An input for which parser and oracle differ, or that raises what it must not."""


def check(raw: bytes) -> str:
    """Hold one input against the oracle; return what kind of answer the parser gave.

    The first byte says the format of the frames, so that a corpus is about all of them.
    """
    number, raw = (raw[0] % len(FORMATS), raw[1:]) if raw else (0, raw)
    form, parser = FORMATS[number], _parsers[number]
    try:
        found = _answers(parser.parse_all([raw]))
        among_many = _answers(parser.parse_all([_FRAMES[number], raw, _FRAMES[number]]))[1:-1]
    except Exception as error:
        raise BrokenPromiseError(f"{form}: {raw!r}: raises {type(error).__name__}: {error}") from error
    if among_many != found:
        raise BrokenPromiseError(f"{form}: {raw!r}: parsed as {found}, but among others as {among_many}")
    wanted = [each.reason if isinstance(each, BadFrameError) else each for _, each in frames_in(raw, form)]
    if wanted != found and not _is_deep(raw):
        raise BrokenPromiseError(f"{form}: {raw!r}: parsed as {found}, the oracle says {wanted}")
    return ",".join(each.value if isinstance(each, Reason) else "frame" for each in found[:4])


def _answers(parsed: Parsed) -> list[tuple[str, int] | Reason]:
    """The frames in the order in which they stand there, and the reasons of those that are refused."""
    found: list[tuple[tuple[int, int], tuple[str, int] | Reason]] = []
    for index, frame in enumerate(zip(parsed.uids, parsed.times, strict=True)):
        element = parsed.elements.get(index)
        found.append(((parsed.places[index], element.number if element else 0), frame))
    found.extend(
        ((each.place, each.element.number if each.element else 0), each.error.reason) for each in parsed.refused
    )
    return [frame for _, frame in sorted(found, key=lambda each: each[0])]


def _is_deep(raw: bytes) -> bool:
    """How deep is too deep depends on how deep the stack is already: both may refuse what the other takes."""
    return raw.count(b"[") + raw.count(b"{") > 300


# Without atheris.


def guided_loop(seeds: Sequence[bytes], seconds: float, random: Random) -> tuple[int, int]:
    """Mutate what reached new lines, or a new answer on its way; return the inputs tried and kept."""
    kept = list(seeds)
    known: set[frozenset[int]] = set()
    tried = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        raw = mutated(random.choice(kept), random, kept)
        reached = trace(lambda raw=raw: check(raw))  # type: ignore[misc]
        tried += 1
        if reached not in known:
            known.add(reached)
            kept.append(raw)
    return tried, len(known)


def trace(action: Callable[[], str]) -> frozenset[int]:
    """The lines of the parser's module that an action reaches."""
    lines: set[int] = set()

    def look(frame: FrameType, event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename not in PRODUCT_FILES:
            return None
        if event == "line":
            lines.add(frame.f_lineno)
        return look

    sys.settrace(look)
    try:
        action()
    finally:
        sys.settrace(None)
    return frozenset(lines)


def mutated(raw: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """An input with a few random changes."""
    data = bytearray(raw)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(data) + 1)
        match random.randrange(6):
            case 0 if data:
                data[at % len(data)] ^= 1 << random.randrange(8)
            case 1:
                data[at:at] = random.choice(DICTIONARY)
            case 2:
                del data[at : at + random.randrange(1, 9)]
            case 3:
                data[at : at + random.randrange(9)] = random.choice(DICTIONARY)
            case 4:
                other = random.choice(others)
                data[at:] = other[random.randrange(len(other) + 1) :]
            case _:
                data[at:at] = data[random.randrange(len(data) + 1) :][:16]
    return bytes(data[:INPUT_BYTES_MAX])


# With atheris.


def with_atheris(atheris: Any, seeds: Sequence[bytes], minutes: float, seed: int, corpus: Path) -> None:
    """Hand over to libFuzzer, which does not come back: it ends the process, with 77 for a finding."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, raw in enumerate(seeds):
        (corpus / f"seed-{number:03}").write_bytes(raw)
    words = corpus.with_suffix(".dict")
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in DICTIONARY)
    words.write_text("".join(f'"{word}"\n' for word in escaped))
    for kind in (FrameParser, TypicalFrames, EventTimes, Field):
        for name, function in list(vars(kind).items()):
            if isinstance(function, FunctionType):
                setattr(kind, name, atheris.instrument_func(function))
    options = [f"-max_total_time={int(minutes * 60)}", f"-seed={seed}", f"-max_len={INPUT_BYTES_MAX}", f"-dict={words}"]
    options += ["-print_final_stats=1", f"-artifact_prefix={corpus.parent}/found-", "-rss_limit_mb=1024"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], lambda raw: check(raw) and None)
    atheris.Fuzz()


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when no promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1 << 30))
    parser.add_argument("--corpus", type=Path, default=Path("/tmp/fuzz-frames/corpus"), help="kept between runs")
    parser.add_argument("--plain", action="store_true", help="the loop of mutations, also where atheris is installed")
    arguments = parser.parse_args(argv)
    messages = [raw for raw, _ in wrong_frames()] + [case.message for case in REAL_FRAMES]
    short = [raw for raw in messages if len(raw) < INPUT_BYTES_MAX]
    seeds = [bytes([number]) + raw for raw in short for number in range(len(FORMATS))]
    print(f"seed {arguments.seed}", file=sys.stderr)
    for raw in seeds:
        check(raw)
    try:
        atheris = None if arguments.plain else importlib.import_module("atheris")
    except ImportError:
        atheris = None
    if atheris is not None:
        with_atheris(atheris, seeds, arguments.minutes, arguments.seed, arguments.corpus)
    try:
        tried, kept = guided_loop(seeds, arguments.minutes * 60, Random(arguments.seed))
    except BrokenPromiseError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{tried:,} inputs, {kept} ways through the parser, no promise broken")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
