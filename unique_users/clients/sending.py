"""Sending to a topic and to the dead-letter topic: dead letters are compressed, and cut if they do not fit."""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import zstandard

from unique_users.clients.connect import get_producer
from unique_users.clients.protocols import REQUEST_BYTES_MAX, Headers, Producer
from unique_users.config.schema import Config
from unique_users.errors import BrokerAwayError, TooLargeError, TopicError
from unique_users.messages.dead_letters import LEFT_OUT, own_headers_begin
from unique_users.runtime.activity import ACTIVITY

_log = logging.getLogger(__name__)

COMPRESSION = "zstd"
BATCH_OVERHEAD_BYTES = 256  # the most that a batch of one record takes besides its key, value and headers
HEADER_OVERHEAD_BYTES = 8
LETTER_OVERHEAD_BYTES = 1024  # roughly what a waiting dead letter costs besides its value
WAITING_BYTES_MAX = 16 * 1024 * 1024


class Letter(NamedTuple):
    """A record of `rejected`; of its value of `bytes_total` bytes it may hold only the first."""

    value: bytes
    headers: Headers
    bytes_total: int
    key: bytes | None = None

    @property
    def overhead(self) -> int:
        """The most that its record takes besides its value, in a batch of its own."""
        headers = sum(len(name.encode()) + len(value or b"") + HEADER_OVERHEAD_BYTES for name, value in self.headers)
        return BATCH_OVERHEAD_BYTES + len(self.key or b"") + headers

    def fitted(self, bytes_max: int) -> "Letter":
        """As much of it as surely fits into a batch of `bytes_max` bytes, with headers that say how much that is.

        The key and the headers of its record are left out if they take more than half of that.
        """
        overhead = self.overhead
        begin = own_headers_begin(self.headers)
        if overhead > bytes_max // 2 and (begin or self.key):
            headers = [*self.headers[begin or 0 :], (LEFT_OUT, b"key and headers")]
            return Letter(self.value, headers, self.bytes_total).fitted(bytes_max)
        value = self.value[: REQUEST_BYTES_MAX - overhead]
        room = max(0, bytes_max - overhead)
        if len(value) > room and len(_compressed(value)) > room:
            value = value[:room]
        if len(value) == self.bytes_total:
            return self
        kept = [("bytes_kept", b"%d" % len(value)), ("bytes_total", b"%d" % self.bytes_total)]
        return Letter(value, [*self.headers, *kept], self.bytes_total, self.key)


def _compressed(value: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(value)


class DeadLetters:
    """Sends to the dead-letter topic, with a producer of its own, which is created for the first letter.

    `bytes_max` asks for the topic's limit, and the producer is made for that. Letters are kept until they are
    acknowledged: if the topic refuses one because its limit is lower by now, they are sent again, shorter.
    """

    def __init__(self, topic: str, bytes_max: Callable[[], int], new_producer: Callable[[int], Producer]) -> None:
        self.topic = topic
        self._ask_bytes_max = bytes_max
        self._new_producer = new_producer
        self._producer: Producer | None = None
        self._bytes_max = REQUEST_BYTES_MAX
        self._waiting: list[Letter] = []
        self._waiting_bytes = 0
        self._handed_over = 0  # of those waiting

    def send(self, value: bytes, headers: Headers, key: bytes | None = None) -> None:
        """Accept a letter. It is in flight after `backpressure_eased`."""
        letter = Letter(value[:REQUEST_BYTES_MAX], headers, len(value), key)
        self._waiting.append(letter)
        self._waiting_bytes += len(letter.value) + letter.overhead + LETTER_OVERHEAD_BYTES

    def backpressure_eased(self, timeout_seconds: float) -> bool:
        """See protocols.Producer."""
        if self._waiting_bytes > WAITING_BYTES_MAX:
            return self.flush(timeout_seconds)
        return not self._waiting or self._until_taken(lambda producer: producer.backpressure_eased(timeout_seconds))

    def flush(self, timeout_seconds: float) -> bool:
        """See protocols.Producer."""
        if self._waiting and not self._until_taken(lambda producer: producer.flush(timeout_seconds)):
            return False
        self._waiting, self._waiting_bytes, self._handed_over = [], 0, 0
        return True

    def close(self) -> None:
        """See protocols.Producer."""
        if self._producer is not None:
            self._producer.close()

    def _until_taken(self, ready: Callable[[Producer], bool]) -> bool:
        """Hand over everything waiting, and call `ready`; as long as it is refused, send all of it again, shorter."""
        while True:
            try:
                if self._producer is None:
                    self._open()
                assert self._producer is not None
                for letter in self._waiting[self._handed_over :]:
                    value, headers, _, key = letter.fitted(self._bytes_max)
                    self._producer.send(self.topic, value, key, headers)
                    self._handed_over += 1
                return ready(self._producer)
            except BrokerAwayError:
                return False
            except TooLargeError as error:
                self._shorten(error)

    def _open(self) -> None:
        self._bytes_max = min(self._bytes_max, self._ask_bytes_max())
        self._producer = self._new_producer(self._bytes_max - BATCH_OVERHEAD_BYTES)
        self._handed_over = 0

    def _shorten(self, error: TooLargeError) -> None:
        """Close the producer, and use a lower limit next time. Raises TopicError if there is nothing left to cut."""
        if self._producer is not None:
            self._producer.close()
            self._producer = None
        asked = self._ask_bytes_max()
        self._bytes_max = asked if asked < self._bytes_max else self._bytes_max // 2
        if not self._bytes_max // BATCH_OVERHEAD_BYTES:
            raise TopicError(f"topic {self.topic!r} takes no records: {error}: raise its max.message.bytes")
        _log.info(f"{self.topic}: {error}; truncating records larger than {self._bytes_max} bytes")


def dead_letters(config: Config, bytes_max: Callable[[Config, str], int]) -> DeadLetters:
    """The DeadLetters of the configured topic; `bytes_max` asks for a topic's limit."""
    topic = config.topics.rejected.name
    return DeadLetters(topic, lambda: bytes_max(config, topic), lambda most: get_producer(config, COMPRESSION, most))


class Sending:
    """A protocols.Producer that uses DeadLetters for the dead-letter topic and `producer` for all others."""

    def __init__(self, producer: Producer, letters: DeadLetters) -> None:
        self._producer = producer
        self._letters = letters
        self.partitions = producer.partitions

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> None:
        ACTIVITY.sent(topic, [key], [value])
        if topic == self._letters.topic:
            self._letters.send(value or b"", headers or [], key)
        else:
            self._producer.send(topic, value, key, headers, partition, timestamp_ms)

    def send_all(
        self,
        topic: str,
        values: Sequence[bytes],
        keys: Sequence[bytes | None] | None = None,
        partitions: Sequence[int] | None = None,
    ) -> None:
        ACTIVITY.sent(topic, keys or (), values)
        self._producer.send_all(topic, values, keys, partitions)

    def backpressure_eased(self, timeout_seconds: float) -> bool:
        return self._producer.backpressure_eased(timeout_seconds) and self._letters.backpressure_eased(timeout_seconds)

    def flush(self, timeout_seconds: float) -> bool:
        return self._producer.flush(timeout_seconds) and self._letters.flush(timeout_seconds)

    def close(self) -> None:
        self._producer.close()
        self._letters.close()
