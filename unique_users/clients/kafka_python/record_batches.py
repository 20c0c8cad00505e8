# ruff: noqa: SLF001  # kafka-python offers no other way in: its release is pinned, and tests/contract holds it to this
"""Record batches as columns: what kafka-python does record by record, done a whole batch at a time.

kafka-python makes three objects for each record it reads, and a future, a lock and a log line for each it sends. Here
it is handed one object for thousands of records, and does the rest with it as always: checksums, transactions,
fetching, retries, sequence numbers. The format is that of https://kafka.apache.org/documentation/#recordbatch.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from time import monotonic, sleep, time
from typing import Any, NamedTuple

from kafka import KafkaProducer, TopicPartition
from kafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError, KafkaTimeoutError
from kafka.producer.future import FutureRecordMetadata
from kafka.producer.producer_batch import ProducerBatch
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.memory_records import MemoryRecordsBuilder

RECORD_BYTES_MAX = 32  # what a record takes at most beside its key and value
TAKEN_BYTES_MAX = 16 * 1024 * 1024  # unpacked records in one poll: a batch more at most
_LOW, _MORE = 0x7F, 0x80  # the bits of a number's byte: seven of its own, and whether another byte follows
_MAGIC = 2  # of this format; older ones are read by kafka-python alone
_SPLIT_SECONDS = 0.01  # between two looks at a batch that the client is splitting


class Columns(NamedTuple):
    """Records in offset order, as columns of equal length."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    timestamps_ms: Sequence[int]
    offsets: Sequence[int]


# Reading


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
        if batch is None or batch.magic != _MAGIC or batch.is_control_batch:
            return batch
        return _Batch(batch, self._first_offset)


class ColumnRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """The answer to a fetch of one partition. `take` gives records whose values are Columns, of many records each."""

    def __init__(self, *arguments: Any, records_max: int, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
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


def decode(data: bytes, batch: DefaultRecordBatch) -> Columns:
    """The records in `data`, which are those of `batch`, unpacked. Raises CorruptRecordError."""
    try:
        return _decoded(data, batch)
    except (IndexError, ValueError) as error:
        raise CorruptRecordError(f"records at offset {batch.base_offset}: {error}") from None


def _decoded(data: bytes, batch: DefaultRecordBatch) -> Columns:  # noqa: C901, PLR0912, PLR0915  # one hot loop
    # A record: its length, attributes (a byte), time and offset less the batch's first ones, the key's length, key,
    # the value's length, value, headers. Numbers have seven bits in a byte, the lowest first, and the sign at their
    # low end. Written out for one and two bytes, as a call for each number would take longer than all the rest.
    low, more, count = _LOW, _MORE, batch.records_count
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    times: list[int] = []
    steps: list[int] = []
    at = 0
    for _ in range(count):
        number = data[at]
        at += 1
        if number > low:
            number, at = _rest(number, data, at)
        end = at + (number >> 1)
        at += 1
        number = data[at]
        at += 1
        if number > low:
            number, at = _rest(number, data, at)
        times.append(number >> 1 ^ -(number & 1))
        number = data[at]
        at += 1
        if number > low:
            if (high := data[at]) < more:
                number += (high - 1) << 7
                at += 1
            else:
                number, at = _rest(number, data, at)
        steps.append(number >> 1)
        number = data[at]
        at += 1
        if number > low:
            number, at = _rest(number, data, at)
        if number & 1:
            keys.append(None)
        else:
            keys.append(data[at : at + (number >> 1)])
            at += number >> 1
        number = data[at]
        at += 1
        if number > low:
            if (high := data[at]) < more:
                number += (high - 1) << 7
                at += 1
            else:
                number, at = _rest(number, data, at)
        if number & 1:
            values.append(None)
        else:
            values.append(data[at : at + (number >> 1)])
            at += number >> 1
        if at >= end:
            raise ValueError("a record is longer than it says")
        at = end
    if at != len(data):
        raise ValueError(f"{len(data)} bytes, of which its {count} records take {at}")
    return Columns(keys, values, _timestamps(times, batch), _offsets(steps, batch))


def _rest(number: int, data: bytes, at: int) -> tuple[int, int]:
    """The number whose first byte was read, as it is written, and where it ends."""
    number &= _LOW
    shift = 7
    while (byte := data[at]) > _LOW:
        number |= (byte & _LOW) << shift
        shift += 7
        at += 1
    return number | byte << shift, at + 1


def _timestamps(times: list[int], batch: DefaultRecordBatch) -> list[int]:
    if batch.timestamp_type == batch.LOG_APPEND_TIME:
        return [batch.max_timestamp] * len(times)
    first = batch.first_timestamp
    return [first + time for time in times]


def _offsets(steps: list[int], batch: DefaultRecordBatch) -> Sequence[int]:
    base = batch.base_offset
    if steps and steps[-1] - steps[0] + 1 == len(steps):
        return range(base + steps[0], base + steps[-1] + 1)
    return [base + step for step in steps]  # compaction has left gaps


# Sending


def _number(value: int) -> bytes:
    """A number that is not negative, as a record has it: see `_decoded`."""
    value <<= 1
    text = bytearray()
    while value > _LOW:
        text.append(value & _LOW | _MORE)
        value >>= 7
    text.append(value)
    return bytes(text)


_NUMBERS = [_number(value) for value in range(8192)]
_NO_KEY = b"\1"
_NOW = b"\0\0"  # attributes, and the time of the batch


def encode(
    values: Sequence[bytes], keys: Sequence[bytes | None], bytes_max: int, count: int = 0, size: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Records as batches hold them: the number of records, and their bytes, for each batch of `bytes_max` at most.

    The first goes behind `count` records of `size` bytes that a batch has already, and may be none. A record that is
    larger alone has a batch for itself.
    """
    numbers, small = _NUMBERS, len(_NUMBERS)
    # Few minutes, many records.
    starts: dict[bytes | None, bytes] = {key: _number(len(key)) + key for key in set(keys) if key is not None}
    starts[None] = _NO_KEY
    parts: list[bytes] = []
    first = count
    for key, value in zip(keys, values, strict=True):
        start = starts[key]
        length = len(value)
        length_text = numbers[length] if length < small else _number(length)
        if size + length + len(start) + RECORD_BYTES_MAX > bytes_max and count:
            yield count - first, b"".join(parts)
            parts = []
            count = size = first = 0
        step = numbers[count] if count < small else _number(count)
        length += len(_NOW) + len(step) + len(start) + len(length_text) + 1
        parts += (numbers[length] if length < small else _number(length), _NOW, step, start, length_text, value, b"\0")
        size += length + 5
        count += 1
    yield count - first, b"".join(parts)


class _Futures:
    """The futures of a batch's records, made when kafka-python asks for them: when it splits the batch."""

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
    """Records on their way to one partition, encoded as they come."""

    def __init__(self, partition: TopicPartition, codec: int, bytes_max: int) -> None:
        super().__init__(partition, MemoryRecordsBuilder(_MAGIC, codec, bytes_max))
        self._record_futures = _Futures(self)

    def filled(self) -> tuple[int, int]:
        """Its records, and about their bytes."""
        return self.record_count, self.records.size_in_bytes()

    def extend(self, count: int, data: bytes) -> None:
        """Add records that are encoded for their place behind those that it has."""
        builder = self.records._builder
        if builder._first_timestamp is None:
            builder._first_timestamp = builder._max_timestamp = int(time() * 1000)
        builder._buffer += data
        builder._num_records += count
        builder._last_offset = builder._num_records - 1
        self.records._next_offset += count

    def try_append(self, *_record: Any, **_settings: Any) -> None:
        """Take no single record: it has no futures for them."""
        return

    def acknowledged(self, timeout_seconds: float) -> bool:
        """Wait until all its records are acknowledged; return False when time is up. Raises KafkaError if not."""
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
    """Wait until a record is acknowledged; return False when time is up. Raises KafkaError if it is not."""
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
    """Have a producer send records after all that it was given before for the partition.

    Returns the batches that they go in, with their bytes in each. What waits for the batch before it is filled up:
    only one of a partition is on its way at a time, so many small ones would be slow.
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
