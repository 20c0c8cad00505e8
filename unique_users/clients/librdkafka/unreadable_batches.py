"""Find where a batch ends that librdkafka cannot unpack, so that it can be skipped.

librdkafka names the first offset of such a batch, and then reads the batch over and over. Reading from an offset inside
it gives the same error, reading from an offset after it gives records: a few reads find its end.
"""
# ruff: noqa: SLF001  # librdkafka's names of errors that no broker sent begin with an underscore

from dataclasses import dataclass

from confluent_kafka import KafkaError

ANSWER_SECONDS = 5.0  # how long a read is given: after the last record, nothing may ever arrive
WHY = (
    "librdkafka cannot unpack its batch: it is damaged, or unpacks to more than kafka.receive.message.max.bytes"
    " (100000000 unless set)"
)


def cannot_unpack(error: KafkaError) -> bool:
    """Whether the error means that a batch cannot be unpacked."""
    return error.code() in {KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG} and "Decompression" in error.str()


@dataclass
class Search:
    """The search for the end of the batch that begins at `base`.

    `inside` is known to be in it and `outside` after it. The next read starts at `probe`, None once the end is found.
    """

    base: int
    inside: int
    outside: int
    deadline: float
    probe: int | None = None

    def __post_init__(self) -> None:
        self._next_probe()

    def error(self, base: int) -> None:
        """Note that the batch at `base` could not be unpacked when reading from `probe`."""
        if self.probe is None:
            return
        if base == self.base:
            self.inside = max(self.inside, self.probe)
        else:
            self.outside = min(self.outside, base)
        self._next_probe()

    def readable(self) -> None:
        """Note that reading from `probe` gave records, or nothing."""
        if self.probe is not None:
            self.outside = min(self.outside, self.probe)
        self._next_probe()

    def _next_probe(self) -> None:
        if self.outside - self.inside <= 1:
            self.probe = None
        elif self.probe is None:
            self.probe = self.inside + 1  # most often such a batch is a single record
        else:
            self.probe = (self.inside + self.outside + 1) // 2
