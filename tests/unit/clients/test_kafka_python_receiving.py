"""What kafka-python is given of what a broker sends, and in how many parts."""

import ssl
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.errors import KafkaConnectionError
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.protocol.frame import KafkaBytes

from unique_users.clients import kafka_python
from unique_users.clients.kafka_python.internals.receiving import RECEIVE_BYTES


class Socket:
    """Has some bytes, and then says so or ends."""

    def __init__(self, data: bytes, then: Exception | None) -> None:
        self.data, self.then = data, then
        self.parts = 0

    def recv(self, size: int) -> bytes:
        part, self.data = self.data[:size], self.data[size:]
        if not part and self.then:
            raise self.then
        self.parts += bool(part)
        return part


@pytest.fixture(params=[KafkaTCPTransport, KafkaSSLTransport])
def transport(request: pytest.FixtureRequest) -> Any:
    assert kafka_python  # whose import changes the class
    return request.param


@pytest.mark.parametrize("then", [BlockingIOError(), ssl.SSLWantReadError()])
def test_all_that_has_come_is_received_in_large_parts(transport: Any, then: Exception) -> None:
    data = bytes(range(256)) * (4 * RECEIVE_BYTES // 256)
    socket = Socket(data, then)
    assert transport._sock_recv(SimpleNamespace(_sock=socket)) == (data, None)
    assert socket.parts == 4


@pytest.mark.parametrize("then", [None, ConnectionResetError("gone")])
def test_the_end_of_a_connection_is_told_once_what_came_before_is_read(transport: Any, then: Exception | None) -> None:
    ended = SimpleNamespace(_sock=Socket(b"why", then))
    assert transport._sock_recv(ended) == (b"why", None)
    data, error = transport._sock_recv(ended)
    assert (data, type(error)) == (b"", KafkaConnectionError)


@given(st.lists(st.binary()), st.lists(st.none() | st.integers(0, 50)))
def test_an_answer_is_read_as_it_was_written(parts: list[bytes], sizes: list[int | None]) -> None:
    answer, same = KafkaBytes(sum(map(len, parts))), BytesIO()
    for part in parts:
        answer.write(part)
        same.write(part)
        assert answer.tell() == same.tell()
    answer.seek(0)
    same.seek(0)
    assert [answer.read(size) for size in sizes] == [same.read(size) for size in sizes]
    assert bytes(answer) == same.getvalue()
