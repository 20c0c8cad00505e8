"""All partitions of one topic, read together from offsets of the caller's choice, without a consumer group."""

from collections.abc import Iterable, Mapping

from unique_users.clients.protocols import Batch, Consumer
from unique_users.errors import BrokerAwayError


class WholeTopic:
    """Reads with a new consumer from `connect.get_reader`. For one thread.

    Every method may raise BrokerAwayError or BrokerError; after that, make a new one.
    """

    def __init__(self, reader: Consumer) -> None:
        self._reader = reader
        self._partitions = reader.poll(0).assigned
        if not self._partitions:
            raise BrokerAwayError("the broker does not say which partitions the topic has")

    def watermark_offsets(self) -> dict[int, tuple[int, int]]:
        """The first offset kept and the end offset of each partition."""
        return self._reader.watermark_offsets(self._partitions)

    def offsets_at(self, timestamp_ms: int) -> dict[int, int]:
        """For each partition, the offset of the first record with this Kafka time or a later one, or the end offset."""
        return self._reader.offsets_at(self._partitions, timestamp_ms)

    def start(self, offsets: Mapping[int, int]) -> None:
        """Read every partition from its offset on, now or once more."""
        for partition in self._partitions:
            self._reader.seek(partition, offsets[partition])

    def poll(self, timeout_seconds: float) -> list[Batch]:
        """Return what has arrived, waiting for `timeout_seconds` at most."""
        polled = self._reader.poll(timeout_seconds)
        if polled.revoked:
            raise BrokerAwayError("the topic has changed under its reader")
        return polled.batches

    def positions(self, partitions: Iterable[int]) -> dict[int, int]:
        """The next offset to be read in each of these partitions."""
        return {partition: self._reader.position(partition) for partition in partitions}

    def is_at(self, ends: Mapping[int, int]) -> bool:
        """Whether everything before these offsets has been read."""
        return all(self._reader.position(partition) >= end for partition, end in ends.items())

    def close(self) -> None:
        """Close the connections."""
        self._reader.close()
