# ruff: noqa: SLF001  # kafka-python offers no other way in: its release is pinned, and tests/contract holds it to this
"""Have a kafka-python producer send records that were encoded many at a time.

kafka-python creates a future, a lock and a log line for each record it sends. Here it is handed one object for
thousands of records, and does the rest as always: checksums, transactions, retries, sequence numbers.
"""

from collections.abc import Sequence
from time import monotonic, sleep, time
from typing import Any

from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError
from kafka.producer.future import FutureRecordMetadata
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.memory_records import MemoryRecordsBuilder

from unique_users.clients.kafka_python.internals.record_format import MAGIC, encode

_SPLIT_SECONDS = 0.01  # between two looks at a batch that the client is splitting


class _Futures:
    """The futures of a batch's records, created when kafka-python asks for them: when it splits the batch."""

    def __init__(self, batch: ProducerBatch) -> None:
        # Not the batch itself: in a cycle, its megabyte would wait for the garbage collector.
        self._records, self._whole = batch.records, batch.produce_future
        self.made: list[FutureRecordMetadata] = []

    def __len__(self) -> int:
        return int(self._records.next_offset())

    def __getitem__(self, index: int) -> FutureRecordMetadata:
        self.made.append(FutureRecordMetadata(self._whole, index, None, None, -1, -1, -1))
        return self.made[-1]


class ColumnBatch(ProducerBatch):  # type: ignore[misc]
    """Records in flight to one partition, encoded as they arrive."""

    def __init__(self, partition: TopicPartition, codec: int, bytes_max: int) -> None:
        super().__init__(partition, MemoryRecordsBuilder(MAGIC, codec, bytes_max))
        self._record_futures = _Futures(self)

    def filled(self) -> tuple[int, int]:
        """Its number of records, and roughly their bytes."""
        return self.record_count, self.records.size_in_bytes()

    def extend(self, count: int, data: bytes) -> None:
        """Add records that are encoded for their place after those already there."""
        builder = self.records._builder
        if builder._first_timestamp is None:
            builder._first_timestamp = builder._max_timestamp = int(time() * 1000)
        builder._buffer += data
        builder._num_records += count
        builder._last_offset = builder._num_records - 1
        self.records._next_offset += count

    def try_append(self, *_record: Any, **_settings: Any) -> None:
        """Refuse a single record: there are no futures for them here."""
        return

    def acknowledged(self, timeout_seconds: float) -> bool:
        """Wait until all its records are acknowledged. Returns False when time is up. Raises KafkaError on failure."""
        deadline = monotonic() + timeout_seconds
        while True:
            self.produce_future.wait(max(0, deadline - monotonic()))
            if self.produce_future.is_done:
                _, _, error_of = self.produce_future.value
                if error_of is not None:
                    raise error_of(0)
                return True
            if len(self._record_futures.made) == len(self._record_futures):
                return all(acknowledged(part, deadline - monotonic()) for part in self._record_futures.made)
            if monotonic() >= deadline:
                return False
            sleep(_SPLIT_SECONDS)  # the client is splitting it


def acknowledged(future: FutureRecordMetadata, timeout_seconds: float) -> bool:
    """Wait until a record is acknowledged. Returns False when time is up. Raises KafkaError on failure."""
    try:
        future.get(max(0, timeout_seconds))
    except KafkaTimeoutError:
        if future.is_done:
            raise
        return False
    return True


def hand_over(
    producer: KafkaProducer, partition: TopicPartition, values: Sequence[bytes], keys: Sequence[bytes | None]
) -> list[tuple[ColumnBatch, int]]:
    """Have a producer send records, after everything it was given before for the partition.

    Returns the batches that hold them, with their bytes in each. A waiting batch is filled up first: only one batch of
    a partition is in flight at a time, so many small ones would be slow.
    """
    waiting, settings = producer._accumulator, producer.config
    used: list[tuple[ColumnBatch, int]] = []
    with waiting._tp_lock(partition):
        queue = waiting._batches[partition]
        last = queue[-1] if queue else None
        batch = last if isinstance(last, ColumnBatch) and not last.records._closed else None
        for count, data in encode(values, keys, settings["batch_size"], *(batch.filled() if batch else (0, 0))):
            if count:
                producer._ensure_valid_record_size(len(data) if count == 1 else 0)
                if batch is None:
                    batch = ColumnBatch(partition, settings["compression_attrs"], settings["batch_size"])
                    queue.append(batch)
                    waiting._incomplete.add(batch)
                batch.extend(count, data)
                used.append((batch, len(data)))
            batch = None
    producer._sender.wakeup()
    return used
