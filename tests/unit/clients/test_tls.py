"""Who waits for a broker that never will answer is told why: TLS meets a listener without it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest
from brokers import config_for

from unique_users.clients.tls import explain_silence
from unique_users.errors import BrokerError


@contextmanager
def listener(answer: bytes) -> Iterator[str]:
    """Hangs up on what does not begin like a request of 10 bytes, as Kafka does on TLS; gives others the answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    if connection.recv(4) == b"\0\0\0\x0a":
                        connection.recv(10)
                        connection.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_tls_against_a_listener_that_answers_without_it_is_an_error() -> None:
    with listener(b"\0\0\0\x06\0\0\0\x01\0\0") as broker, pytest.raises(BrokerError, match="does not speak TLS"):
        explain_silence(config_for(broker, kafka={"security_protocol": "SASL_SSL"}))


def test_a_listener_that_hangs_up_on_both_may_be_a_broker_that_ends_and_is_waited_for() -> None:
    with listener(b"") as broker:
        explain_silence(config_for(broker, kafka={"security_protocol": "SASL_SSL"}))
