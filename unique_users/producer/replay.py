"""The producer's loop: the lines of a file become records of `feed`."""

import logging
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from unique_users.clients.protocols import Producer
from unique_users.errors import DeliveryError, TooLargeError
from unique_users.messages.frame import CutLine, Reason
from unique_users.runtime.activity import Step, timed
from unique_users.runtime.heartbeat import alive
from unique_users.runtime.signals import Stop

_log = logging.getLogger(__name__)

STEP_LINES = 500  # lines between two checks of the clock and of the in-flight limit
# Between two flushes: sent again when a producer fails. Frames of 2 KB reach the first, long lines the second.
FLUSH_LINES = 10_000
FLUSH_BYTES = 24_000_000
ROOM_SECONDS = 1.0
ALONE_BYTES = 1_000_000  # a longer line is a batch of its own, so a refusal names the line


class Sent(NamedTuple):
    """What was acknowledged."""

    frames: int
    cut: int  # lines too long for Kafka, sent to `rejected`


class Replay:
    """Sends lines to `feed` at `rate` frames per second at most, None: as fast as possible.

    A line counts as sent once it is acknowledged. When a producer fails, a new one sends the lines since its last flush
    again: a frame may arrive twice, which changes no count, and none is left out.
    """

    def __init__(
        self,
        lines: Iterable[list[bytes]],
        new_producer: Callable[[], Producer | None],
        topics: tuple[str, str],
        stop: Stop,
        monotonic: Callable[[], float],
        rate: float | None = None,
    ) -> None:
        self._blocks = iter(lines)
        self._block: list[bytes] = []  # those up to `_taken` are sent
        self._taken = 0
        self._new_producer = new_producer
        self._feed, self._rejected = topics
        self._stop = stop
        self._monotonic = monotonic
        self._rate = rate
        self._started = monotonic()
        self._handed_over = 0
        self._unflushed: list[bytes] = []
        self._unflushed_bytes = 0
        self._producer: Producer | None = None
        self.sent = Sent(0, 0)

    def open(self) -> None:
        """Connect; has no effect if a stop is requested while no broker answers."""
        self._producer = self._new_producer()

    def step(self) -> bool:
        """Send the next lines. Returns False if there are none, or no more are wanted.

        Raises InputError if the file is damaged, after sending the lines before that.
        """
        if self._stop.requested or self._producer is None:
            return False
        alive()
        lines = self._next(self._lines_due())
        if lines is None:
            return False
        self._unflushed += lines
        self._unflushed_bytes += sum(map(len, lines))
        with timed(Step.SEND):
            self._attempt(lambda producer: self._send(producer, lines))
        if len(self._unflushed) >= FLUSH_LINES or self._unflushed_bytes >= FLUSH_BYTES:
            self.flush()
        return True

    def flush(self) -> bool:
        """Wait until all lines are acknowledged. Returns False if a forced end leaves some unsure."""
        self._attempt(self._flush)
        return not self._unflushed

    def close(self) -> None:
        """Close the connection."""
        if self._producer is not None:
            self._producer.close()

    def _next(self, lines_max: int) -> list[bytes] | None:
        """The next available lines, possibly none. None at the end of the file."""
        if lines_max and self._taken == len(self._block):
            block = next(self._blocks, None)
            if block is None:
                return None
            self._block, self._taken = block, 0
        lines = self._block[self._taken : self._taken + lines_max]
        self._taken += len(lines)
        return lines

    def _lines_due(self) -> int:
        """How many lines to send now; waits until it is at least one."""
        if self._rate is None:
            return STEP_LINES
        while not self._stop.requested:
            due = int((self._monotonic() - self._started) * self._rate) + 1 - self._handed_over
            if due > 0:
                return min(due, STEP_LINES)
            self._stop.wait(min(1.0, 1 / self._rate))
        return 0

    def _attempt(self, action: Callable[[Producer], None]) -> None:
        """Run `action`; if the producer fails, send everything unsure with a new one."""
        while self._producer is not None:
            try:
                action(self._producer)
            except DeliveryError as error:
                if isinstance(error, TooLargeError):
                    self._reject_one()
                _log.info(f"{error}; sending the last {len(self._unflushed)} frames again")
                self._producer.close()
                self._stop.wait(ROOM_SECONDS)
                self._producer = self._new_producer()
                action = self._send_again
            else:
                return

    def _reject_one(self) -> None:
        """`feed` has refused a line that goes alone: send the one that compresses worst to `rejected`."""
        places = [n for n, line in enumerate(self._unflushed) if type(line) is bytes and len(line) > ALONE_BYTES]
        if places:
            place = max(places, key=lambda place: len(zlib.compress(self._unflushed[place], 1)))
            self._unflushed[place] = CutLine(self._unflushed[place], len(self._unflushed[place]))

    def _send_again(self, producer: Producer) -> None:
        self._handed_over -= len(self._unflushed)
        self._send(producer, self._unflushed)
        self._flush(producer)

    def _send(self, producer: Producer, lines: Sequence[bytes]) -> None:
        cut = [line for line in lines if isinstance(line, CutLine)]
        if whole := [line for line in lines if type(line) is bytes] if cut else lines:
            producer.send_all(self._feed, whole)
        for line in cut:
            kept = f", of which the first {len(line)} are kept" if len(line) < line.bytes_total else ", as it is"
            detail = f"a line of {line.bytes_total} bytes{kept}"
            headers = [("reason", Reason.TOO_LARGE.encode()), ("detail", detail.encode())]
            producer.send(self._rejected, bytes(line), headers=headers)
        self._handed_over += len(lines)
        self._wait(producer.backpressure_eased)

    def _flush(self, producer: Producer) -> None:
        with timed(Step.FLUSH):
            arrived = self._wait(producer.flush)
        if arrived:
            cut = sum(isinstance(line, CutLine) for line in self._unflushed)
            self.sent = Sent(self.sent.frames + len(self._unflushed) - cut, self.sent.cut + cut)
            self._unflushed, self._unflushed_bytes = [], 0

    def _wait(self, ready: Callable[[float], bool]) -> bool:
        """Wait for the broker, however long it takes; after a stop request, only a few more seconds."""
        patience = 4
        said = False
        while not ready(ROOM_SECONDS):
            alive()
            if not said:
                _log.warning("waiting for the broker to acknowledge what was sent …")
                said = True
            if self._stop.requested:
                patience -= 1
                if patience == 0:
                    return False
        return True
