"""Proxies between a client and its broker, which a test can silence, or have damage what passes."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

SASL_HANDSHAKE = 17  # the number of that request


class FreezableProxy:
    """A CONNECT proxy between a client and its broker, which a test can silence: a partitioned network."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = [self._listener]
        self.damages: tuple[bytes, bytes] = (b"", b"")  # what is changed on its way, and into what
        self._running = threading.Event()
        self._running.set()
        self._serve(self._accept)

    def freeze(self) -> None:
        self._running.clear()

    def thaw(self) -> None:
        self._running.set()

    def close(self) -> None:
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._running.set()

    def _serve(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        def until_closed() -> None:
            with suppress(OSError):
                work(*arguments)

        threading.Thread(target=until_closed, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            self._sockets.append(client)
            self._serve(self._connect, client)

    def _connect(self, client: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += client.recv(4096)
        self._running.wait()
        host, _, port = request.split()[1].decode().rpartition(":")
        server = socket.create_connection((host, int(port)))
        self._sockets.append(server)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        self._serve(self._pump, server, client)
        self._pump(client, server)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65536):
            self._running.wait()
            target.sendall(data.replace(*self.damages) if self.damages[0] else data)


class RewritingProxy(FreezableProxy):
    """Stands in for the broker, whose answers it changes to name itself: for clients that cannot use a proxy."""

    def __init__(self, broker: str) -> None:
        super().__init__()
        host, _, port = broker.rpartition(":")
        self._broker = (host, int(port))
        # A response names a broker by its host and, right behind it, its port in four bytes.
        self._names = [
            (name + int(port).to_bytes(4, "big"), name + self.port.to_bytes(4, "big"))
            for name in (b"127.0.0.1", b"localhost")
        ]

    def _connect(self, client: socket.socket) -> None:
        self._running.wait()
        with client, socket.create_connection(self._broker) as server:
            self._sockets.append(server)
            self._serve(self._answer, server, client)
            self._pump(client, server)

    def _answer(self, source: socket.socket, target: socket.socket) -> None:
        with source.makefile("rb") as responses:
            while size := responses.read(4):
                response = responses.read(int.from_bytes(size, "big"))
                for theirs, ours in self._names:
                    response = response.replace(theirs, ours)
                if self.damages[0]:
                    response = response.replace(*self.damages)
                self._running.wait()
                target.sendall(size + response)


class LoginCutOff(RewritingProxy):
    """Stands in for a broker that ends while a client logs in."""

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with source.makefile("rb") as requests:
            while size := requests.read(4):
                request = requests.read(int.from_bytes(size, "big"))
                if int.from_bytes(request[:2], "big") == SASL_HANDSHAKE:
                    source.shutdown(socket.SHUT_RDWR)
                    return
                target.sendall(size + request)
