"""Checks whether a broker can be used, with a few bytes of Kafka's protocol: no client, no threads."""

import errno
import socket
import ssl
import struct
from dataclasses import dataclass
from io import BufferedRWPair
from pathlib import Path
from random import SystemRandom
from typing import Any

ANSWER_SECONDS = 2
ANSWER_BYTES_MAX = 1024 * 1024
PORTS = range(20_000, 32_000)  # below those that Linux, macOS and Windows use for outgoing connections
SASL_HANDSHAKE, SASL_AUTHENTICATE, METADATA = 17, 36, 3


@dataclass(frozen=True)
class Login:
    """How to log in to a broker that requires TLS and a password."""

    ca: Path
    user: str
    password: str


def brokers_known(host: str, port: int, login: Login | None = None) -> int:
    """How many brokers of its cluster the one at this address knows to be up, 0 if it does not answer."""
    try:
        with _connection(host, port, login) as connection, connection.makefile("rwb") as stream:
            if login is not None:
                _ask(stream, SASL_HANDSHAKE, 1, _text("PLAIN"))
                token = f"\0{login.user}\0{login.password}".encode()
                _ask(stream, SASL_AUTHENTICATE, 0, struct.pack(">i", len(token)) + token)
            # Version 1 and no topics: the answer begins with the number of brokers.
            brokers: int = struct.unpack_from(">i", _ask(stream, METADATA, 1, struct.pack(">i", 0)))[0]
    except (OSError, EOFError, struct.error):
        return 0
    return max(0, brokers)


def listens(host: str, port: int) -> bool:
    """Whether any program accepts connections there."""
    try:
        socket.create_connection((host.strip("[]"), port), ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port of the loopback address that no program uses now, one of PORTS. Raises OSError.

    A broker might not get a port back that is used for outgoing connections: a client that keeps trying its address may
    be given that very port for its own end, and is then connected to itself.
    """
    for port in SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(errno.EADDRINUSE, f"no port from {PORTS.start} to {PORTS.stop - 1} is free")


def _connection(host: str, port: int, login: Login | None) -> socket.socket:
    name = host.strip("[]")
    plain = socket.create_connection((name, port), ANSWER_SECONDS)
    if login is None:
        return plain
    try:
        return ssl.create_default_context(cafile=str(login.ca)).wrap_socket(plain, server_hostname=name)
    except BaseException:
        plain.close()
        raise


def _ask(stream: "BufferedRWPair[Any, Any]", api: int, version: int, body: bytes) -> bytes:
    """The body of the response to one request."""
    correlation = api
    request = struct.pack(">hhih", api, version, correlation, -1) + body
    stream.write(struct.pack(">i", len(request)) + request)
    stream.flush()
    size, answered = struct.unpack(">ii", stream.read(8))
    if answered != correlation or not 4 <= size <= ANSWER_BYTES_MAX:  # noqa: PLR2004 - the correlation id is in it
        raise EOFError
    return stream.read(size - 4)


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()
