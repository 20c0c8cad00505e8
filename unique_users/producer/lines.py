"""Splitting text into lines, in bounded memory."""

from unique_users.messages.frame import CutLine

# The longest line that is kept whole, so that a file without line ends does not fill the memory.
LINE_BYTES_MAX = 8_000_000
MARK = b"\xef\xbb\xbf"  # a byte order mark in UTF-8, which some programs put at the start of a file


class Unfinished:
    """The line whose end has not arrived: its first bytes, and how many followed. False if it is empty."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._held) + self._dropped

    def add(self, more: bytes) -> None:
        """Continue it, keeping LINE_BYTES_MAX bytes and one more, which may belong to the line end."""
        room = LINE_BYTES_MAX + 1 - len(self._held)
        self._held += more[:room]
        self._dropped += max(0, len(more) - room)

    def take(self) -> bytes:
        """Return the line, as a CutLine if it is too long, and begin the next one."""
        held, dropped = self._held, self._dropped
        self._held, self._dropped = bytearray(), 0
        if not dropped:
            held = held.rstrip(b"\r")
        whole = len(held) + dropped
        if whole <= LINE_BYTES_MAX:
            return bytes(held)
        del held[LINE_BYTES_MAX:]
        return CutLine(bytes(held), whole)


class Lines:
    """Splits blocks of bytes into lines without line ends, wherever a block ends. A line too long becomes a CutLine."""

    def __init__(self) -> None:
        self._unfinished = Unfinished()

    def feed(self, block: bytes) -> list[bytes]:
        """The lines that end in a block; the rest is unfinished."""
        if b"\n" not in block:
            self._unfinished.add(block)
            return []
        first, *ended = block.split(b"\n")
        self._unfinished.add(first.rstrip(b"\r"))
        lines = [self._unfinished.take()]
        self._unfinished.add(ended.pop())
        lines += [line.rstrip(b"\r") for line in ended]
        if max(map(len, lines), default=0) > LINE_BYTES_MAX:
            lines = [
                line if len(line) <= LINE_BYTES_MAX else CutLine(line[:LINE_BYTES_MAX], len(line)) for line in lines
            ]
        if MARK[0] in block or lines[0].startswith(MARK):  # one byte is found faster than three
            lines = [without_mark(line) for line in lines]
        return lines

    def end(self) -> list[bytes]:
        """The last line, which has no line end."""
        return [without_mark(self._unfinished.take())] if self._unfinished else []


def without_mark(line: bytes) -> bytes:
    """A line without the byte order mark that it may begin with: concatenated files have one in the middle."""
    return line if isinstance(line, CutLine) else line.removeprefix(MARK)
