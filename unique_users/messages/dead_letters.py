"""The dead-letter topic `rejected`: what is not counted, why, and where it came from. Pure."""

from typing import NamedTuple

from unique_users.messages.frame import Reason


class DeadLetter(NamedTuple):
    """A record that is not counted."""

    reason: Reason
    detail: str
    topic: str
    partition: int
    offset: int
    value: bytes
    key: bytes | None = None
    element: int | None = None  # which frame of the record it is, starting at 0, if that holds several

    def headers(self) -> list[tuple[str, bytes]]:
        """The headers of its record in `rejected`."""
        headers = [
            ("reason", self.reason.encode()),
            ("detail", self.detail.encode(errors="replace")),
            ("topic", self.topic.encode()),
            ("partition", b"%d" % self.partition),
            ("offset", b"%d" % self.offset),
        ]
        return headers if self.element is None else [*headers, ("element", b"%d" % self.element)]
