"""Record batches as columns, against kafka-python's own reading and writing record by record."""

import tracemalloc
from collections.abc import Sequence
from struct import pack_into
from unittest.mock import patch

import pytest
import snappy
from bombs import PIECE, packed, unpacked
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError, KafkaTimeoutError, MessageSizeTooLargeError
from kafka.producer.producer_batch import ProducerBatch
from kafka.producer.record_accumulator import RecordAccumulator
from kafka.record import MemoryRecords, MemoryRecordsBuilder, default_records

from unique_users.clients.kafka_python.internals import column_reading
from unique_users.clients.kafka_python.internals.column_reading import ColumnRecords, columns, joined, records_of, runs
from unique_users.clients.kafka_python.internals.column_sending import ColumnBatch
from unique_users.clients.kafka_python.internals.record_format import Columns, decode, decode_headers, encode, end_of
from unique_users.clients.kafka_python.internals.unpacking import UNPACKED_BYTES_MAX
from unique_users.errors import TopicError

PARTITION = TopicPartition("topic", 0)
NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
CODECS = [NONE, GZIP, SNAPPY, LZ4, ZSTD]
PACKED = [(GZIP, "gzip"), (SNAPPY, "snappy"), (LZ4, "lz4"), (ZSTD, "zstd")]
HOUR_MS = 3_600_000

texts = st.binary(max_size=300) | st.sampled_from([b"", bytes(63), bytes(64), bytes(8191), bytes(8192), bytes(20_000)])
records = st.lists(st.tuples(st.none() | texts, texts), min_size=1, max_size=80)


def filled(count: int, data: bytes, codec: int = NONE) -> ColumnBatch:
    batch = ColumnBatch(PARTITION, codec, 1 << 20)
    batch.extend(count, data)
    return batch


def written(pieces: Sequence[tuple[int, bytes]], codec: int = NONE) -> bytes:
    """The pieces as they go to a broker."""
    data = b""
    for count, piece in pieces:
        batch = filled(count, piece, codec)
        batch.records.close()
        data += bytes(batch.records.buffer())
    return data


def read_by_kafka_python(data: bytes) -> list[tuple[bytes | None, bytes | None]]:
    return [(record.key, record.value) for batch in MemoryRecords(data) for record in batch]


@given(records, st.sampled_from(CODECS), st.sampled_from([100, 4_000, 1_000_000]))
def test_kafka_python_reads_what_is_encoded(rows: list[tuple[bytes | None, bytes]], codec: int, bytes_max: int) -> None:
    pieces = list(encode([value for _, value in rows], [key for key, _ in rows], bytes_max))
    assert all(len(piece) <= bytes_max or count == 1 for count, piece in pieces)
    data = written(pieces, codec)
    assert all(batch.validate_crc() for batch in MemoryRecords(data))
    assert read_by_kafka_python(data) == rows


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 1 << 40), st.integers(-1, 9)), min_size=1), st.data())
def test_the_end_of_an_answer_is_that_of_its_last_whole_batch(
    batches: list[tuple[int, int, int]], draws: st.DataObject
) -> None:
    data = bytearray()
    for count, first_offset, leader_epoch in batches:
        start = len(data)
        data += written(list(encode([b"value"] * count, [None] * count, 1_000)))
        pack_into(">q", data, start, first_offset)
        pack_into(">i", data, start + 12, leader_epoch)
    cut = bytes(data[: draws.draw(st.integers(0, len(data)))])
    ends = [(batch.next_offset, batch.leader_epoch) for batch in MemoryRecords(cut)]
    assert end_of(cut) == (ends[-1] if ends else None)


def test_an_answer_in_an_older_format_has_no_end_that_is_known() -> None:
    builder = MemoryRecordsBuilder(1, NONE, 1_000)
    builder.append(None, None, b"value")
    builder.close()
    assert end_of(bytes(builder.buffer())) is None


def test_no_records_make_no_batch() -> None:
    assert list(encode([], [], 100)) == [(0, b"")]


@given(records, records, st.integers(100, 20_000))
def test_records_go_behind_those_that_a_batch_has(
    first: list[tuple[bytes | None, bytes]], more: list[tuple[bytes | None, bytes]], bytes_max: int
) -> None:
    batch = filled(*next(encode([value for _, value in first], [key for key, _ in first], 1 << 24)))
    (count, data), *others = encode([value for _, value in more], [key for key, _ in more], bytes_max, *batch.filled())
    batch.extend(count, data)
    batch.records.close()
    assert len(batch.records.buffer()) <= max(bytes_max, len(data)) or count == 0
    written_all = bytes(batch.records.buffer()) + written(others)
    assert read_by_kafka_python(written_all) == first + more
    assert [record.offset for record in next(MemoryRecords(written_all))] == list(range(len(first) + count))


def built(rows: Sequence[tuple[int, bytes | None, bytes | None, list[tuple[str, bytes]]]], codec: int = NONE) -> bytes:
    """A batch that kafka-python makes, of times, keys, values and headers."""
    builder = MemoryRecordsBuilder(2, codec, 1 << 28)
    for timestamp, key, value, headers in rows:
        assert builder.append(timestamp, key, value, headers)
    builder.close()
    return bytes(builder.buffer())


some_headers = st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=100)), max_size=3)
times = st.integers(0, 2**41)


@given(st.lists(st.tuples(times, st.none() | texts, st.none() | texts, some_headers), min_size=1, max_size=80))
def test_decoding_says_what_kafka_python_says(
    rows: list[tuple[int, bytes | None, bytes | None, list[tuple[str, bytes]]]],
) -> None:
    data = built(rows)
    (batch,) = MemoryRecords(data)
    read = decode(data[batch.HEADER_STRUCT.size :], batch)
    assert list(read.keys) == [key for _, key, _, _ in rows]
    assert list(read.values) == [value for _, _, value, _ in rows]
    assert list(read.timestamps_ms) == [timestamp for timestamp, _, _, _ in rows]
    assert list(read.offsets) == list(range(len(rows)))


@given(st.data())
def test_damaged_records_are_corrupt_and_nothing_else(data: st.DataObject) -> None:
    good = built([(5, b"key", bytes(100), []), (6, None, b"value", [("h", b"x")])])
    (batch,) = MemoryRecords(good)
    text = bytearray(good[batch.HEADER_STRUCT.size :])
    text[data.draw(st.integers(0, len(text) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(text), bytes(text[: data.draw(st.integers(0, len(text) - 1))])):
        try:
            read = decode(damaged, batch)
        except CorruptRecordError:
            continue
        assert len(read.keys) == len(read.values) == len(read.offsets) == 2


def fetched(data: bytes, offset: int = 0, records_max: int = 1_000) -> ColumnRecords:
    return ColumnRecords(offset, PARTITION, MemoryRecords(data), records_max=records_max)


def at_offset(data: bytes, offset: int) -> bytes:
    """A batch as a broker stores it: the first field is its first offset, which the checksum leaves out."""
    return offset.to_bytes(8, "big") + data[8:]


def rows_of(count: int, first: int = 0) -> list[tuple[int, bytes | None, bytes | None, list[tuple[str, bytes]]]]:
    return [(HOUR_MS, None, b"%d" % number, []) for number in range(first, first + count)]


@pytest.mark.parametrize("codec", CODECS)
def test_a_fetch_gives_columns_batch_by_batch(codec: int) -> None:
    data = built(rows_of(3), codec) + at_offset(built(rows_of(2, 3), codec), 3)
    answer = fetched(data, records_max=3)
    (first,) = answer.take(1)
    assert columns(first) == Columns([None] * 3, [b"0", b"1", b"2"], [HOUR_MS] * 3, range(3), leader_epoch=0)
    assert answer.next_fetch_offset == 3
    (second,) = answer.take(1)
    assert columns(second).values == [b"3", b"4"]
    assert list(columns(second).offsets) == [3, 4]
    assert not answer
    assert answer.next_fetch_offset == 5


def test_a_take_holds_as_many_batches_as_it_may() -> None:
    data = b"".join(at_offset(built(rows_of(2, first)), first) for first in (0, 2, 4))
    taken = fetched(data, records_max=3).take(1)
    whole = joined([columns(record) for record in taken])
    assert whole.values == [b"0", b"1", b"2", b"3"]
    assert whole.offsets == range(4)


def test_reading_starts_in_the_middle_of_a_batch() -> None:
    answer = fetched(built(rows_of(5)), offset=3)
    (record,) = answer.take(1)
    assert columns(record).values == [b"3", b"4"]
    assert list(columns(record).offsets) == [3, 4]
    assert answer.next_fetch_offset == 5


def test_a_batch_whose_checksum_is_wrong_is_not_read_and_what_came_before_it_is() -> None:
    damaged = bytearray(at_offset(built(rows_of(2, 2)), 2))
    damaged[-1] ^= 1
    answer = fetched(built(rows_of(2)) + bytes(damaged))
    (record,) = answer.take(1)
    assert columns(record).values == [b"0", b"1"]
    with pytest.raises(TopicError, match="topic-0: the batch at offset 2 is damaged"):
        answer.take(1)


# A batch that unpacks to too much, or to no records, is passed.


def passed(data: bytes, offset: int = 0) -> list[tuple[list[int], str]]:
    """What stands for it: offsets, and why it cannot be read."""
    answer = fetched(data, offset, records_max=10**9)
    return [(list(part.offsets), part.unreadable) for part in runs([columns(record) for record in answer.take(1)])]


def with_payload(payload: bytes, codec: int, count: int = 3) -> bytes:
    """A batch that was stored with this in place of its compressed records."""
    builder = MemoryRecordsBuilder(2, codec, 1 << 28)
    for row in rows_of(count):
        assert builder.append(row[0], row[1], bytes(len(payload) + 1), row[3])
    encode_name = {GZIP: "gzip_encode", LZ4: "lz4_encode", ZSTD: "zstd_encode", SNAPPY: "snappy_encode"}[codec]
    with patch.object(default_records, encode_name, lambda _: payload):
        builder.close()
    return bytes(builder.buffer())


@pytest.mark.parametrize(("codec", "name"), PACKED)
def test_a_batch_that_unpacks_to_too_much_is_passed_in_bounded_memory(codec: int, name: str) -> None:
    data = with_payload(packed(name, unpacked(400, 3)), codec)
    good = at_offset(built(rows_of(2, 3)), 3)
    tracemalloc.start()
    found = passed(data + good)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [([0, 1, 2], f"its batch unpacks to more than {UNPACKED_BYTES_MAX} bytes"), ([3, 4], "")]
    assert most < 2 * UNPACKED_BYTES_MAX


@pytest.mark.parametrize(("codec", "name"), PACKED)
def test_a_batch_up_to_the_bound_is_read(codec: int, name: str) -> None:
    (record,) = fetched(with_payload(packed(name, unpacked(60, 3)), codec)).take(1)
    assert [len(value or b"") for value in columns(record).values] == [20 * len(PIECE)] * 3


@pytest.mark.parametrize(("codec", "name"), PACKED)
def test_a_batch_whose_records_are_cut_off_or_no_records_is_passed(codec: int, name: str) -> None:
    whole = packed(name, unpacked(1, 3))
    for payload in (whole[: len(whole) // 2], b"nothing of the kind", packed(name, iter([b"no records"]))):
        ((offsets, why),) = passed(with_payload(payload, codec))
        assert offsets == [0, 1, 2]
        assert why


def test_a_batch_of_snappy_is_measured_before_it_is_unpacked() -> None:
    block = b"\x80\x80\x80\xc8\x01" + b"of 400 MiB, as it says"
    framed = b"\x82SNAPPY\0" + (1).to_bytes(4, "big") * 2 + len(block).to_bytes(4, "big") + block
    for payload in (block, framed):
        ((offsets, why),) = passed(with_payload(payload, SNAPPY))
        assert offsets == [0, 1, 2]
        assert "unpacks to more than" in why


def test_framed_blocks_inside_a_block_of_snappy_are_no_way_around_the_bound() -> None:
    inside = packed("snappy", unpacked(400, 3))  # taken for a block, it says that it unpacks to some kilobytes
    data = with_payload(inside[:16] + len(inside).to_bytes(4, "big") + inside, SNAPPY)
    tracemalloc.start()
    ((_, why),) = passed(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "damaged" in why
    assert most < 2 * UNPACKED_BYTES_MAX


def test_blocks_of_snappy_without_frames_are_read() -> None:
    """As Go's and librdkafka's clients write them."""
    rows = b"".join(unpacked(2, 3))
    (record,) = fetched(with_payload(snappy.compress(rows), SNAPPY)).take(1)
    assert [len(value or b"") for value in columns(record).values] == [2 * len(PIECE) // 3] * 3


def test_a_batch_of_too_many_records_is_passed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_reading, "RECORDS_MAX", 2_000)
    data = built(rows_of(2_500))
    answer = fetched(data, offset=700, records_max=1)
    pieces = [columns(record) for record in answer.take(1)]
    assert [list(piece.offsets) for piece in pieces] == [list(range(700, 1_700))]
    assert answer.next_fetch_offset == 1_700
    ((offsets, why),) = passed(data, offset=700)
    assert offsets == list(range(700, 2_500))
    assert why == "its batch holds 2500 records, more than 2000"


def test_gaps_that_compaction_leaves_are_kept() -> None:
    builder = MemoryRecordsBuilder(2, NONE, 1 << 20)
    builder.append(1, b"a", b"0")
    builder.skip(4)
    builder.append(1, b"b", b"5")
    builder.close()
    (record,) = fetched(bytes(builder.buffer())).take(1)
    assert list(columns(record).offsets) == [0, 5]
    assert joined([columns(record), columns(record)]).offsets == [0, 5, 0, 5]


def test_a_record_of_an_older_format_stands_for_itself() -> None:
    builder = MemoryRecordsBuilder(1, NONE, 1 << 20)
    builder.append(7, b"key", b"value")
    builder.close()
    (record,) = fetched(bytes(builder.buffer())).take(1)
    assert columns(record) == Columns([b"key"], [b"value"], [7], [0])


def test_the_fetcher_of_this_release_makes_its_answers_as_is_relied_on() -> None:
    assert issubclass(ColumnRecords, Fetcher.PartitionRecords)


# A batch that the broker finds too large is split by kafka-python: then its parts are waited for.


def split(count: int) -> tuple[ColumnBatch, list[ProducerBatch]]:
    ((records_count, piece),) = encode([b"%d" % number for number in range(count)], [None] * count, 1 << 20)
    batch = filled(records_count, piece)
    waiting = RecordAccumulator(batch_size=1 << 20, message_version=2)
    batch.records.close()
    waiting.split_and_reenqueue(batch)
    return batch, list(waiting._batches[PARTITION])


def test_a_split_batch_is_acknowledged_when_both_halves_are() -> None:
    batch, (first, second) = split(5)
    assert not batch.acknowledged(0)
    first.complete(0, -1)
    assert not batch.acknowledged(0)
    second.complete(3, -1)
    assert batch.acknowledged(0)


def test_a_split_batch_fails_with_one_of_its_halves() -> None:
    batch, (first, second) = split(5)
    first.complete(0, -1)
    error = MessageSizeTooLargeError()
    second.complete_exceptionally(error, lambda _: error)
    with pytest.raises(MessageSizeTooLargeError):
        batch.acknowledged(0)


def test_a_failure_is_raised_and_not_taken_for_a_wait() -> None:
    batch = filled(*next(encode([b"x"], [None], 100)))
    assert not batch.acknowledged(0)
    error = KafkaTimeoutError("delivery took too long")
    batch.complete_exceptionally(error, lambda _: error)
    with pytest.raises(KafkaTimeoutError):
        batch.acknowledged(0)


def test_a_batch_takes_no_single_record() -> None:
    batch = filled(*next(encode([b"x"], [None], 100)))
    batch.try_append(1, None, b"y", [])
    assert batch.record_count == 1


@given(st.lists(st.tuples(st.text(max_size=200), st.binary(max_size=200)), max_size=70), st.integers(0, 400))
def test_headers_are_decoded_as_they_were_encoded_and_those_cut_off_are_left_out(
    headers: list[tuple[str, bytes]], cut: int
) -> None:
    builder = MemoryRecordsBuilder(2, 0, 1 << 20)
    builder.append(timestamp=0, key=None, value=b"v", headers=headers)
    builder.append(timestamp=0, key=b"k", value=b"w", headers=[])
    builder.close()
    batch = MemoryRecords(builder.buffer()).next_batch()
    found = decode(records_of(batch), batch)
    if not headers:
        assert found.headers == {}
        return
    assert list(found.headers) == [0]
    assert decode_headers(found.headers[0]) == headers
    some = decode_headers(found.headers[0][:cut])
    assert some == headers[: len(some)]
    assert decode_headers(b"") == []
