"""Bytes as they arrive from a file, a pipe or another layer of compression; the first ones can be looked at ahead."""

from collections.abc import Callable, Iterator
from typing import Self

PLAIN_BYTES = 256 * 1024  # read at a time


class Source:
    """Reads like a file that cannot seek: `more(size)` gives up to `size` bytes, and none at the end."""

    def __init__(self, more: Callable[[int], bytes]) -> None:
        self._more = more
        self._held = b""
        self._error: Exception | None = None

    @classmethod
    def of(cls, blocks: Iterator[bytes]) -> Self:
        """The bytes of some blocks."""
        some = filter(None, blocks)
        return cls(lambda _size: next(some, b""))

    def start(self, is_enough: Callable[[bytes], bool]) -> bytes:
        """The first bytes, as many as are enough, or all there are. They are still to be read.

        An error is raised once the bytes before it have been read.
        """
        while not is_enough(self._held) and self._error is None:
            try:
                more = self._more(PLAIN_BYTES)
            except Exception as error:  # noqa: BLE001  # whatever it is, read1 raises it
                self._error = error
                break
            if not more:
                break
            self._held += more
        return self._held

    def read1(self, size: int) -> bytes:
        """The next bytes, `size` at most. None at the end."""
        if not self._held:
            if self._error is not None:
                raise self._error
            self._held = self._more(size)
        read, self._held = self._held[:size], self._held[size:]
        return read

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end."""
        read = self.read1(size)
        while len(read) < size and (more := self.read1(size - len(read))):
            read += more
        return read

    def blocks(self) -> Iterator[bytes]:
        """All remaining bytes."""
        if self._held:
            held, self._held = self._held, b""
            yield held
        if self._error is not None:
            raise self._error
        yield from iter(lambda: self._more(PLAIN_BYTES), b"")
