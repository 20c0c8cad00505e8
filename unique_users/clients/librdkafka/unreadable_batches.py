"""Find where a batch ends that librdkafka cannot unpack, so that it can be passed.

librdkafka names the first offset of such a batch, and then reads the batch over and over. What is read from an offset
inside it brings the same error, what is read from an offset behind it brings records: a few readings find its end.
"""
# ruff: noqa: SLF001  # librdkafka's names of errors that no broker sent begin with an underscore

from dataclasses import dataclass

from confluent_kafka import KafkaError

ANSWER_SECONDS = 5.0  # what a reading is given: behind the last record nothing may come, ever
WHY = (
    "librdkafka cannot unpack its batch: it is damaged, or unpacks to more than kafka.receive.message.max.bytes"
    " (100000000 unless set)"
)


def cannot_unpack(error: KafkaError) -> bool:
    """Whether the error tells of a batch that cannot be unpacked."""
    return error.code() in {KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG} and "Decompression" in error.str()


@dataclass
class Search:
    """The search for the end of the batch that begins at `base`.

    `inside` is known to lie in it and `outside` behind it. It is read from `probe`, None when the end is found.
    """

    base: int
    inside: int
    outside: int
    deadline: float
    probe: int | None = None

    def __post_init__(self) -> None:
        self._next_probe()

    def error(self, base: int) -> None:
        """From `probe` on, the batch at `base` could not be unpacked."""
        if self.probe is None:
            return
        if base == self.base:
            self.inside = max(self.inside, self.probe)
        else:
            self.outside = min(self.outside, base)
        self._next_probe()

    def readable(self) -> None:
        """From `probe` on, there are records, or there is nothing."""
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
