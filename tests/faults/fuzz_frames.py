"""Fuzz the frame parser, guided by coverage: python tests/faults/fuzz_frames.py [--minutes 10] [--seed N].

Three promises are held, the second against a plain oracle, `json.loads`: nothing but BadFrameError is ever raised;
where the bytes are UTF-8 exactly those frames are taken that the rules of docs/design.md take, with the same user and
time; and a frame among many gets the same answer as alone.

It uses atheris when that is installed, which also guides by comparisons in native code; without it a loop of mutations
that keeps what reaches new lines of the parser. Exit code 1 when a promise is broken; the input is printed.
"""

import argparse
import importlib
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random, SystemRandom
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import repository  # noqa: F401 - finds the product
from corpus import wrong_frames

from unique_users.messages import frame as product
from unique_users.messages.frame import TS_MAX, UID_BYTES_MAX, BadFrameError, FrameParser

INPUT_BYTES_MAX = 4_096
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
_parser = FrameParser()


class BrokenPromiseError(Exception):
    """An input for which parser and oracle differ, or that raises what it must not."""


def check(raw: bytes) -> str:
    """Hold one input against the oracle; return what kind of answer the parser gave."""
    try:
        found: tuple[str, int] | None = _parser.parse(raw)
        answer = "frame"
    except BadFrameError as error:
        found, answer = None, error.reason.value
    except Exception as error:
        raise BrokenPromiseError(f"{raw!r}: raises {type(error).__name__}: {error}") from error
    if (among_many := _among_many(raw)) != found:
        raise BrokenPromiseError(f"{raw!r}: parsed as {found}, but among others as {among_many}")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return answer  # texts that nobody reads may hold anything
    wanted = oracle(text)
    if wanted != found and not _is_a_known_difference(text, found, wanted):
        raise BrokenPromiseError(f"{raw!r}: parsed as {found}, the oracle says {wanted}")
    return answer


def _among_many(raw: bytes) -> tuple[str, int] | None:
    parsed = _parser.parse_all([_FRAME, raw, _FRAME])
    if parsed.refused:
        assert [place for place, _ in parsed.refused] == [1]
        return None
    return parsed.uids[1], parsed.times[1]


_FRAME = b'{"uid":"u","ts":1704116384}'


def oracle(text: str) -> tuple[str, int] | None:
    """What a slow and simple reader makes of a frame; None: it is none. Times as texts are the product's own rule."""
    try:
        root = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    uid, ts = (root.get("uid"), root.get("ts")) if isinstance(root, dict) else (None, None)
    if isinstance(ts, str):
        try:
            _, ts = _parser.parse(b'{"uid":"u","ts":%s}' % json.dumps(ts).encode())
        except BadFrameError:
            return None
    if not isinstance(uid, str) or not isinstance(ts, int | float) or isinstance(ts, bool) or not math.isfinite(ts):
        return None
    # Half of a surrogate pair is no text.
    size = 0 if any("\ud800" <= character <= "\udfff" for character in uid) else len(uid.encode())
    return (uid, math.floor(ts)) if 0 < size <= UID_BYTES_MAX and 0 <= math.floor(ts) <= TS_MAX else None


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _is_a_known_difference(text: str, found: tuple[str, int] | None, wanted: tuple[str, int] | None) -> bool:
    """JSON that json.loads takes and this parser does not: halves of surrogate pairs, numbers beyond any float.

    Also where they stand in the first of two equal keys, so those are kept as pairs here.
    """
    return found is None and wanted is not None and _is_beyond(json.loads(text, object_pairs_hook=list))


def _is_beyond(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_is_beyond, value))
    if isinstance(value, str):
        return any("\ud800" <= character <= "\udfff" for character in value)
    return isinstance(value, float) and math.isinf(value)


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
        if frame.f_code.co_filename != product.__file__:
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
    for function in (FrameParser.parse, FrameParser._look_closer, FrameParser._seconds, FrameParser._number_of):
        setattr(FrameParser, function.__name__, atheris.instrument_func(function))
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
    seeds = [raw for raw, _ in wrong_frames() if len(raw) <= INPUT_BYTES_MAX]
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
