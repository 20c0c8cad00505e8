# ruff: noqa: SLF001  # kafka-python offers no other way in: its release is pinned, and tests/contract holds it to this
"""Have kafka-python receive an answer of megabytes in few parts, and copy it no more than necessary.

Its I/O thread receives 4 KiB at a time, and each time the interpreter switches threads, which takes up to 5 ms while
the main thread is busy. It then copies what it received twice into the answer's buffer, and the records twice out of
it, and nothing else runs meanwhile. Here a part is whatever has arrived, up to `RECEIVE_BYTES`, and is copied once.
"""

import ssl
from typing import Any

from kafka.errors import KafkaConnectionError
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.protocol.frame import KafkaBytes

RECEIVE_BYTES = 256 * 1024
_NOTHING_MORE = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def receive_much() -> None:
    """Patch the client's classes. Call it once, before hear_refusals, which builds on this."""
    for transport in (KafkaTCPTransport, KafkaSSLTransport):
        transport._sock_recv = _receive
    KafkaBytes.read = _read
    KafkaBytes.write = _write


def _receive(transport: Any) -> tuple[bytes, Exception | None]:
    """What has arrived, and the error that ends the connection, if any."""
    parts = []
    try:
        while part := transport._sock.recv(RECEIVE_BYTES):
            parts.append(part)
        error: Exception | None = KafkaConnectionError("socket disconnected")
    except _NOTHING_MORE:
        error = None
    except Exception as failure:  # noqa: BLE001  # whatever it is, the connection is unusable
        error = KafkaConnectionError(failure)
    return b"".join(parts), error


def _read(buffer: Any, size: int | None = None) -> bytes:
    """The next bytes; fewer at the end of the buffer."""
    start = buffer._idx
    buffer._idx = len(buffer) if size is None else min(start + size, len(buffer))
    return bytes(memoryview(buffer)[start : buffer._idx])


def _write(buffer: Any, data: bytes) -> None:
    """Write bytes at the buffer's position, which has room for them."""
    start = buffer._idx
    buffer._idx += len(data)
    with memoryview(buffer) as room:
        room[start : buffer._idx] = data
