"""The dead-letter topic `rejected`: what is not counted, why, and where it came from. Pure.

A dead letter has the key and the headers of its record, followed by our own headers, the first of which is `reason`.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

Headers = Sequence[tuple[str, bytes | None]]

FIRST_OWN = "reason"
LEFT_OUT = "left_out"  # says that the key and the headers of the record did not fit
REPLAYED = "replayed"  # on a record of `feed` that was a dead letter before
NO_TIME = -1


class DeadLetter(NamedTuple):
    """A record that is not counted.

    A line too long for `feed`, which producer.py sends itself, belongs to no record: it has no topic, and its partition
    and offset are -1.
    """

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    value: bytes
    key: bytes | None = None
    timestamp_ms: int = NO_TIME  # of its record
    record_headers: Headers = ()
    element: int | None = None  # its place among the frames of its record, if there were several
    bytes_total: int | None = None  # of the value, if it was cut to fit
    left_out: bool = False  # whether key and headers were too large to be kept

    def headers(self) -> list[tuple[str, bytes | None]]:
        """The headers of its record in `rejected`, except those that say what was cut."""
        element = [] if self.element is None else [("element", b"%d" % self.element)]
        return [
            *self.record_headers,
            (FIRST_OWN, self.reason.encode()),
            ("detail", self.detail.encode(errors="replace")),
            ("topic", self.topic.encode()),
            ("partition", b"%d" % self.partition),
            ("offset", b"%d" % self.offset),
            *element,
            ("timestamp_ms", b"%d" % self.timestamp_ms),
        ]

    @classmethod
    def read(cls, value: bytes | None, key: bytes | None, headers: Headers) -> Self | None:
        """Read a record of `rejected`; None if it is not a dead letter."""
        begin = own_headers_begin(headers)
        if begin is None:
            return None
        said = {name: (text or b"").decode(errors="replace") for name, text in headers[begin:]}
        element, total = _number(said.get("element")), _number(said.get("bytes_total"))
        return cls(
            said[FIRST_OWN],
            said.get("detail", ""),
            said.get("topic", ""),
            _number(said.get("partition"), -1),
            _number(said.get("offset"), -1),
            value or b"",
            key,
            _number(said.get("timestamp_ms"), NO_TIME),
            tuple(headers[:begin]),
            None if element < 0 else element,
            None if total < 0 else total,
            LEFT_OUT in said,
        )

    @property
    def replayed(self) -> bool:
        """Whether it was replayed before and rejected again."""
        return any(name == REPLAYED for name, _ in self.record_headers)


def own_headers_begin(headers: Headers) -> int | None:
    """The index of the first header that is ours; None if these are not a dead letter's."""
    found = [index for index, (name, _) in enumerate(headers) if name == FIRST_OWN]
    return found[-1] if found else None


def _number(text: str | None, missing: int = -1) -> int:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 20 else missing  # noqa: PLR2004
