"""A bad network on one machine: a proxy on loopback that can be frozen, slowed down and cut, or damages what passes.

A broker advertises it as the address of one of its listeners, so that every client goes through it: see
harness.new_broker.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

CHUNK_BYTES = 1 << 20
CONNECT_SECONDS = 5.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """Carries connections from `address` to the local port `target` until told otherwise. A context manager."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._flows = threading.Event()
        self._flows.set()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._closed = False
        self.latency_seconds = 0.0  # of a round trip
        self.damages: tuple[bytes, bytes] = (b"", b"")  # what is changed on its way, and into what
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        """Let nothing through any more; connections stay open, as behind a cut cable."""
        self._flows.clear()

    def thaw(self) -> None:
        """Let everything through again, what waited first."""
        self._flows.set()

    def reset(self) -> int:
        """Cut every connection with a TCP reset; return how many sockets that were."""
        with self._lock:
            cut, self._sockets = self._sockets, set()
        for end in cut:
            _abort(end)
        return len(cut)

    def close(self) -> None:
        """Stop listening and cut what is left."""
        self._closed = True
        self._flows.set()
        self._listener.close()
        self.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with self._lock:
            self._sockets.add(client)
        try:
            self._hold()
            broker = self._broker_of(client)
            broker.settimeout(None)
        except OSError:
            self._drop(client)
            return
        with self._lock:
            self._sockets.add(broker)
        for pass_on, source, target in (self._pass_requests, client, broker), (self._pass_answers, broker, client):
            with suppress(OSError):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._carry, args=(pass_on, source, target), daemon=True).start()

    def _broker_of(self, client: socket.socket) -> socket.socket:  # noqa: ARG002 - others ask the client
        return socket.create_connection(("127.0.0.1", self.target), CONNECT_SECONDS)

    def _pass_requests(self, source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(CHUNK_BYTES):
            self._hold()
            target.sendall(self._changed(data))

    def _pass_answers(self, source: socket.socket, target: socket.socket) -> None:
        self._pass_requests(source, target)

    def _changed(self, data: bytes) -> bytes:
        return data.replace(*self.damages) if self.damages[0] else data

    def _carry(self, pass_on: Callable[..., None], source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            pass_on(source, target)
        self._hold()
        self._drop(source, target)

    def _hold(self) -> None:
        self._flows.wait()
        if self.latency_seconds:
            time.sleep(self.latency_seconds / 2)

    def _drop(self, *ends: socket.socket) -> None:
        with self._lock:
            self._sockets.difference_update(ends)
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _abort(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        # A thread may be blocked in recv: shutting down wakes it, and it would send FIN; reading alone does not.
        end.shutdown(socket.SHUT_RD)
    end.close()
