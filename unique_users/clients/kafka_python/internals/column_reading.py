# ruff: noqa: SLF001  # kafka-python offers no other way in: its release is pinned, and tests/contract holds it to this
"""Have a kafka-python consumer return whole batches of records, as columns.

kafka-python creates three objects for each record it reads. Here it is handed one object for thousands of records, and
does the rest as always: checksums, transactions, fetching.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch

from unique_users.clients.connect import damaged
from unique_users.clients.kafka_python.internals.record_format import MAGIC, Columns, decode, end_of
from unique_users.clients.kafka_python.internals.unpacking import UnreadableError, unpacked

TAKEN_BYTES_MAX = 16 * 1024 * 1024  # unpacked records in one poll: at most one batch more
RECORDS_MAX = 500_000  # in one batch: even empty ones take 128 bytes each
PASSED_RECORDS_MAX = 1_000  # of an unreadable batch, in one of the records that stand for it


class _Batch:
    """A kafka-python batch that returns all its records from `first_offset` on as one, whose value is Columns."""

    def __init__(self, batch: DefaultRecordBatch, partition: TopicPartition, first_offset: int) -> None:
        self._batch = batch
        self._partition = partition
        self._first_offset = first_offset

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def validate_crc(self) -> bool:
        if not self._batch.validate_crc():
            raise damaged(self._partition.topic, self._partition.partition, self._batch.base_offset)
        return True

    def __iter__(self) -> Iterator[DefaultRecord]:
        try:
            data = records_of(self._batch)
            read = _from(decode(data, self._batch), self._first_offset)
        except (UnreadableError, CorruptRecordError) as error:
            for piece in _passed(self._batch, self._first_offset, str(error)):
                yield self._record(0, piece)
            return
        read = read._replace(leader_epoch=self._batch.leader_epoch)
        if read.offsets:
            yield self._record(len(data), read)

    def _record(self, size: int, read: Columns) -> DefaultRecord:
        return DefaultRecord(size, read.offsets[-1], -1, self._batch.timestamp_type, None, read, [])


class _Batches:
    """MemoryRecords whose batches are `_Batch`es."""

    def __init__(self, records: MemoryRecords, partition: TopicPartition, first_offset: int) -> None:
        self._records = records
        self._partition = partition
        self._first_offset = first_offset

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        if batch is None or batch.magic != MAGIC or batch.is_control_batch:
            return batch  # older formats are left to kafka-python
        return _Batch(batch, self._partition, self._first_offset)


class ColumnRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """The answer to a fetch of one partition. `take` returns records whose values are Columns of many records each."""

    def __init__(
        self, offset: int, partition: TopicPartition, records: MemoryRecords, *, records_max: int, **settings: Any
    ) -> None:
        super().__init__(offset, partition, records, **settings)
        self.end = end_of(records._buffer)
        self._records_max = records_max

    def _unpack_records(self, partition: TopicPartition, records: MemoryRecords, *_deserializers: Any) -> Any:
        return super()._unpack_records(partition, _Batches(records, partition, self.fetch_offset), None, None)

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
    """Have a fetcher return Columns. A poll for one record brings `records_max` of them, and at most one batch more."""
    fetcher.PartitionRecords = partial(ColumnRecords, records_max=records_max)


def columns(record: Any) -> Columns:
    """The records that a polled one stands for. One in an older format stands for itself."""
    if isinstance(record.value, Columns):
        return record.value
    return Columns([record.key], [record.value], [time_of(record)], [record.offset])


def time_of(record: Any) -> int:
    """The Kafka time, in milliseconds, of a record in an older format; -1 if it has none, as before Kafka 0.10."""
    return -1 if record.timestamp is None else record.timestamp


def joined(parts: Sequence[Columns]) -> Columns:
    """Concatenate Columns."""
    if len(parts) == 1:
        return parts[0]
    first, last = parts[0].offsets[0], parts[-1].offsets[-1]
    whole = last - first + 1 == sum(len(part.offsets) for part in parts)
    return Columns(
        [key for part in parts for key in part.keys],
        [value for part in parts for value in part.values],
        [timestamp for part in parts for timestamp in part.timestamps_ms],
        range(first, last + 1) if whole else [offset for part in parts for offset in part.offsets],
        parts[0].unreadable,
        parts[-1].leader_epoch,
        _joined_headers(parts) if any(part.headers for part in parts) else {},
    )


def _joined_headers(parts: Sequence[Columns]) -> dict[int, bytes]:
    headers: dict[int, bytes] = {}
    before = 0
    for part in parts:
        headers |= {before + place: encoded for place, encoded in part.headers.items()}
        before += len(part.offsets)
    return headers


def runs(parts: Sequence[Columns]) -> list[Columns]:
    """Concatenate Columns, keeping unreadable ones apart."""
    return [joined(list(run)) for _, run in groupby(parts, key=lambda part: part.unreadable)]


def records_of(batch: DefaultRecordBatch) -> bytes:
    """The decompressed records in a batch. Raises UnreadableError."""
    codec = batch.compression_type
    if codec != batch.CODEC_NONE:
        batch._assert_has_codec(codec)  # raises the client's own error
    if batch.records_count > RECORDS_MAX:
        raise UnreadableError(f"its batch holds {batch.records_count} records, more than {RECORDS_MAX}")
    return unpacked(codec, bytes(memoryview(batch._buffer)[batch._pos :]))


def _passed(batch: DefaultRecordBatch, first_offset: int, why: str) -> Iterator[Columns]:
    """What stands for the records of an unreadable batch."""
    first = max(batch.base_offset, first_offset)
    for start in range(first, batch.last_offset + 1, PASSED_RECORDS_MAX):
        offsets = range(start, min(start + PASSED_RECORDS_MAX, batch.last_offset + 1))
        nothing = [None] * len(offsets)
        yield Columns(nothing, nothing, [batch.max_timestamp] * len(offsets), offsets, why)


def _from(read: Columns, first_offset: int) -> Columns:
    """Drop the records before `first_offset`: a broker sends whole batches."""
    if not read.offsets or read.offsets[0] >= first_offset:
        return read
    skipped = sum(offset < first_offset for offset in read.offsets)
    keys, values, timestamps_ms, offsets, *_ = read
    headers = {place - skipped: encoded for place, encoded in read.headers.items() if place >= skipped}
    return Columns(keys[skipped:], values[skipped:], timestamps_ms[skipped:], offsets[skipped:], headers=headers)
