# ruff: noqa: SLF001  # kafka-python offers no other way in: its release is pinned, and tests/contract holds it to this
"""Have a consumer of kafka-python give whole batches of records, as columns.

kafka-python makes three objects for each record it reads. Here it is handed one object for thousands of records, and
does the rest with it as always: checksums, transactions, fetching.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from kafka import TopicPartition
from kafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from kafka.consumer.fetcher import Fetcher
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch

from unique_users.clients.kafka_python.record_format import MAGIC, Columns, decode, end_of

TAKEN_BYTES_MAX = 16 * 1024 * 1024  # unpacked records in one poll: a batch more at most


class _Batch:
    """A batch of kafka-python that gives all its records from `first_offset` on as one, whose value is Columns."""

    def __init__(self, batch: DefaultRecordBatch, first_offset: int) -> None:
        self._batch = batch
        self._first_offset = first_offset

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[DefaultRecord]:
        data = _unpacked(self._batch)
        read = _from(decode(data, self._batch), self._first_offset)
        if read.offsets:
            yield DefaultRecord(len(data), read.offsets[-1], -1, self._batch.timestamp_type, None, read, [])


class _Batches:
    """MemoryRecords whose batches are `_Batch`es."""

    def __init__(self, records: MemoryRecords, first_offset: int) -> None:
        self._records = records
        self._first_offset = first_offset

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        if batch is None or batch.magic != MAGIC or batch.is_control_batch:
            return batch  # kafka-python reads older formats alone
        return _Batch(batch, self._first_offset)


class ColumnRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """The answer to a fetch of one partition. `take` gives records whose values are Columns, of many records each."""

    def __init__(
        self, offset: int, partition: TopicPartition, records: MemoryRecords, *, records_max: int, **settings: Any
    ) -> None:
        super().__init__(offset, partition, records, **settings)
        self.end = end_of(records._buffer)
        self._records_max = records_max

    def _unpack_records(self, partition: TopicPartition, records: MemoryRecords, *_deserializers: Any) -> Any:
        return super()._unpack_records(partition, _Batches(records, self.fetch_offset), None, None)

    def take(self, _batches_max: int | None = None) -> list[Any]:
        """Whole batches, until they hold `records_max` records."""
        bytes_max = self.bytes_read + TAKEN_BYTES_MAX
        taken: list[Any] = super().take(1)
        count = sum(len(columns(record).offsets) for record in taken)
        while self and count < self._records_max and self.bytes_read < bytes_max:
            try:
                more = super().take(1)
            except Exception as error:  # noqa: BLE001  # whatever it is, the next call raises it
                self._next_inline_exception = error
                break
            taken += more
            count += sum(len(columns(record).offsets) for record in more)
        return taken


def read_columns(fetcher: Fetcher, records_max: int) -> None:
    """Have a fetcher give Columns. A poll for one record brings `records_max` of them, and a batch more at most."""
    fetcher.PartitionRecords = partial(ColumnRecords, records_max=records_max)


def columns(record: Any) -> Columns:
    """The records that a polled one stands for. One in an older format stands for itself."""
    if isinstance(record.value, Columns):
        return record.value
    return Columns([record.key], [record.value], [record.timestamp], [record.offset])


def joined(parts: Sequence[Columns]) -> Columns:
    """Columns one behind the other."""
    if len(parts) == 1:
        return parts[0]
    first, last = parts[0].offsets[0], parts[-1].offsets[-1]
    whole = last - first + 1 == sum(len(part.offsets) for part in parts)
    return Columns(
        [key for part in parts for key in part.keys],
        [value for part in parts for value in part.values],
        [timestamp for part in parts for timestamp in part.timestamps_ms],
        range(first, last + 1) if whole else [offset for part in parts for offset in part.offsets],
    )


_UNPACK: dict[int, Callable[[bytes], bytes]] = {
    DefaultRecordBatch.CODEC_NONE: bytes,
    DefaultRecordBatch.CODEC_GZIP: gzip_decode,
    DefaultRecordBatch.CODEC_SNAPPY: snappy_decode,
    DefaultRecordBatch.CODEC_LZ4: lz4_decode,
    DefaultRecordBatch.CODEC_ZSTD: zstd_decode,
}


def _unpacked(batch: DefaultRecordBatch) -> bytes:
    codec = batch.compression_type
    if codec != batch.CODEC_NONE:
        batch._assert_has_codec(codec)  # raises the client's own error
    return _UNPACK[codec](bytes(memoryview(batch._buffer)[batch._pos :]))


def _from(read: Columns, first_offset: int) -> Columns:
    """Without the records before `first_offset`: a broker sends whole batches."""
    if not read.offsets or read.offsets[0] >= first_offset:
        return read
    skipped = sum(offset < first_offset for offset in read.offsets)
    keys, values, timestamps_ms, offsets = read
    return Columns(keys[skipped:], values[skipped:], timestamps_ms[skipped:], offsets[skipped:])
