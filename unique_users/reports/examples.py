"""Examples of what is rejected: one for each reason, now and then. Pure."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

EXAMPLE_SECONDS = 60.0  # between two examples for the same reason
SHOWN_CHARACTERS = 80  # of a frame
DETAIL_CHARACTERS = 200


class Example(NamedTuple):
    """A rejected frame."""

    reason: str
    detail: str
    where: str  # topic-partition@offset, or a line of a file
    frame: bytes

    def words(self) -> str:
        """On one line, safe to print on a terminal."""
        detail = escaped(self.detail[:DETAIL_CHARACTERS])
        return ": ".join(filter(None, [self.where, self.reason, detail, shown_start(self.frame)]))


class Examples:
    """Chooses the examples to log, and counts what they stand for."""

    def __init__(self) -> None:
        self._untold: Counter[str] = Counter()
        self._due: dict[str, float] = {}

    def lines(self, rejected: Iterable[Example], now: float) -> list[str]:
        """The lines to log about these, the first of each reason, at monotonic time `now`."""
        first: dict[str, Example] = {}
        for example in rejected:
            self._untold[example.reason] += 1
            first.setdefault(example.reason, example)
        told = []
        for reason, example in first.items():
            due = self._due.get(reason)
            if due is None or now >= due:
                since = "so far" if due is None else "since the last example"
                told.append(f"rejected: {example.words()} ({self._untold.pop(reason):,} for this reason {since})")
                self._due[reason] = now + EXAMPLE_SECONDS
        return told


def shown_start(frame: bytes) -> str:
    """The first characters of a frame, escaped, followed by `…` if there are more."""
    text = frame[: 4 * SHOWN_CHARACTERS].decode(errors="surrogateescape")
    more = "…" if len(text) > SHOWN_CHARACTERS or len(frame) > 4 * SHOWN_CHARACTERS else ""
    return escaped(text[:SHOWN_CHARACTERS]) + more


def escaped(text: str) -> str:
    """The text with all that is not printable escaped, such as control characters and those that change direction."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004  # a byte that is not UTF-8, as surrogateescape decodes it
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:  # noqa: PLR2004
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004
