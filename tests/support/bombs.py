"""Batches of a few kilobytes that unpack to hundreds of megabytes, made without ever holding these."""

import gzip
import io
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import lz4.frame
import snappy
import zstandard
from kafka import KafkaProducer
from kafka.record import default_records
from kafka.record.util import encode_varint

PIECE = b" " * (1 << 20)


def send_bomb(servers: str, topic: str, codec: str = "gzip", *, mebibytes: int = 400, records: int = 1) -> None:
    """Put a batch into partition 0 whose records together have a value of so many mebibytes of spaces."""
    payload = packed(codec, unpacked(mebibytes, records))
    with (
        patch.object(default_records, f"{codec}_encode", lambda _: payload),
        KafkaProducer(
            bootstrap_servers=servers,
            compression_type=codec,
            linger_ms=60_000,  # all of them in one batch, which flush sends
            batch_size=1 << 27,
            max_request_size=1 << 27,
        ) as producer,
    ):
        # The first is larger than what is sent in place of it, or kafka-python would not compress.
        values = [bytes(len(payload) + 1), *[b""] * (records - 1)]
        sent = [producer.send(topic, value, partition=0) for value in values]
        producer.flush()
        offsets = [future.get(60).offset for future in sent]
        assert offsets == list(range(offsets[0], offsets[0] + records)), "one batch"


def unpacked(mebibytes: int, records: int) -> Iterator[bytes]:
    """The bytes of a batch's records, in pieces."""
    for number in range(records):
        size = (mebibytes * len(PIECE)) // records
        head = b"\0\0" + varint(number) + varint(-1) + varint(size)
        yield varint(len(head) + size + 1) + head
        for _ in range(size // len(PIECE)):
            yield PIECE
        yield PIECE[: size % len(PIECE)] + b"\0"


def varint(number: int) -> bytes:
    text = bytearray()
    encode_varint(number, text.append)
    return bytes(text)


def packed(codec: str, pieces: Iterator[bytes]) -> bytes:
    if codec == "snappy":
        return framed(pieces)
    into = io.BytesIO()
    files: dict[str, Any] = {
        "gzip": lambda: gzip.GzipFile(fileobj=into, mode="w", compresslevel=6),
        "lz4": lambda: lz4.frame.LZ4FrameFile(into, mode="w", block_linked=False),
        "zstd": lambda: zstandard.ZstdCompressor().stream_writer(into, closefd=False),
    }
    with files[codec]() as file:
        for piece in pieces:
            file.write(piece)
    return into.getvalue()


def framed(pieces: Iterator[bytes]) -> bytes:
    """As Java's snappy frames blocks."""
    blocks = (snappy.compress(piece) for piece in pieces)
    framed = (len(block).to_bytes(4, "big") + block for block in blocks)
    return b"\x82SNAPPY\0" + (1).to_bytes(4, "big") * 2 + b"".join(framed)
