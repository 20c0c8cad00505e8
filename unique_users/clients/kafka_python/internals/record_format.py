"""A record batch's records as columns, read and written in one loop for the whole batch.

The format is documented at https://kafka.apache.org/documentation/#recordbatch.
"""

from collections.abc import Iterator, Mapping, Sequence
from struct import Struct
from typing import NamedTuple

from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch

MAGIC = 2  # identifies this batch format to a broker
RECORD_BYTES_MAX = 32  # the most a record takes besides its key and value
_HEADER = Struct(">qiib6xi")  # a batch's first offset, length, leader epoch, magic, and the step to its last offset
_OVERHEAD = 12  # bytes of a batch that its length field does not count
_LOW, _MORE = 0x7F, 0x80  # the bits of a number's byte: seven of its own, and whether another byte follows


class Columns(NamedTuple):
    """Records in offset order, as columns of equal length."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    timestamps_ms: Sequence[int]
    offsets: Sequence[int]
    unreadable: str = ""  # see protocols.Batch
    leader_epoch: int = -1  # of the leader that took the last one, -1 if unknown
    headers: Mapping[int, bytes] = {}  # still encoded, by the index of their record; most records have none


def end_of(batches: bytes) -> tuple[int, int] | None:
    """The next offset after some batches, and the last one's leader epoch; a partial batch is ignored.

    None if there is no whole batch, or one in an older format.
    """
    end, at = None, 0
    while at + _HEADER.size <= len(batches):
        base, length, epoch, magic, last = _HEADER.unpack_from(batches, at)
        at += _OVERHEAD + length
        if magic != MAGIC or length < _HEADER.size:
            return None
        if at <= len(batches):
            end = base + last + 1, epoch
    return end


def decode(data: bytes, batch: DefaultRecordBatch) -> Columns:
    """Decode `data`, the decompressed records of `batch`. Raises CorruptRecordError."""
    try:
        return _decoded(data, batch)
    except (IndexError, ValueError) as error:
        raise CorruptRecordError(f"records at offset {batch.base_offset}: {error}") from None


def _decoded(data: bytes, batch: DefaultRecordBatch) -> Columns:  # noqa: C901, PLR0912, PLR0915  # one hot loop
    # A record: its length, attributes (a byte), time and offset relative to the batch's first ones, the key's length,
    # key, the value's length, value, headers. Numbers are zigzag varints: seven bits per byte, lowest first. Written
    # out for one and two bytes, because a call for each number would take longer than all the rest.
    low, more, count = _LOW, _MORE, batch.records_count
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    times: list[int] = []
    steps: list[int] = []
    headers: dict[int, bytes] = {}
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
        at += 1
        if at != end:  # the byte that says there are no headers is not the last one
            if at > end:
                raise ValueError("a record is longer than it says")
            headers[len(values) - 1] = data[at - 1 : end]
            at = end
    if at != len(data):
        raise ValueError(f"{len(data)} bytes, of which its {count} records take {at}")
    return Columns(keys, values, _timestamps(times, batch), _offsets(steps, batch), headers=headers)


def decode_headers(data: bytes) -> list[tuple[str, bytes | None]]:
    """A record's headers. Those after a malformed one are left out: they must not keep the record from being read."""
    headers: list[tuple[str, bytes | None]] = []
    try:
        number, at = _rest(data[0], data, 1) if data[0] > _LOW else (data[0], 1)
        for _ in range(number >> 1):
            name, at = _text(data, at)
            value, at = _text(data, at)
            headers.append(((name or b"").decode(errors="replace"), value))
    except (IndexError, ValueError):
        return headers
    return headers


def _text(data: bytes, at: int) -> tuple[bytes | None, int]:
    """The bytes after their length, or None for a length below 0; and where they end. Raises ValueError."""
    number, at = _rest(data[at], data, at + 1) if data[at] > _LOW else (data[at], at + 1)
    if number & 1:
        return None, at
    end = at + (number >> 1)
    if end > len(data):
        raise ValueError("a header is longer than its record")
    return data[at:end], end


def _rest(number: int, data: bytes, at: int) -> tuple[int, int]:
    """The number whose first byte was read, as it is encoded, and where it ends."""
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


def _number(value: int) -> bytes:
    """Encode a number that is not negative, as in a record: see `_decoded`."""
    value <<= 1
    text = bytearray()
    while value > _LOW:
        text.append(value & _LOW | _MORE)
        value >>= 7
    text.append(value)
    return bytes(text)


_NUMBERS = [bytes((value << 1,)) for value in range(64)]
_NUMBERS += [bytes((value << 1 & _LOW | _MORE, value >> 6)) for value in range(64, 8192)]  # as _number does, but faster
_NO_KEY = b"\1"
_NOW = b"\0\0"  # attributes, and the time of the batch


def encode(
    values: Sequence[bytes], keys: Sequence[bytes | None], bytes_max: int, count: int = 0, size: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Encode records for batches: the number of records and their bytes, for each batch of `bytes_max` at most.

    The first part goes after `count` records of `size` bytes that a batch already has, and may be empty. A record that
    exceeds the limit alone gets a batch of its own.
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
