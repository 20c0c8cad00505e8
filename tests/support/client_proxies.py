"""Proxies for clients whose broker knows nothing of them."""

import socket

from proxy import CONNECT_SECONDS, Proxy

SASL_HANDSHAKE = 17  # the number of that request


class ConnectProxy(Proxy):
    """A proxy that clients ask, by HTTP's CONNECT, for the broker that they want."""

    def __init__(self) -> None:
        super().__init__(target=0)

    def _broker_of(self, client: socket.socket) -> socket.socket:
        request = b""
        while b"\r\n\r\n" not in request:
            if not (data := client.recv(4096)):
                raise ConnectionResetError
            request += data
        self._hold()
        host, _, port = request.split()[1].decode().rpartition(":")
        broker = socket.create_connection((host, int(port)), CONNECT_SECONDS)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        return broker


class RewritingProxy(Proxy):
    """Stands in for the broker, whose answers it changes to name itself: for clients that cannot use a proxy."""

    def __init__(self, broker: str) -> None:
        super().__init__(int(broker.rpartition(":")[2]))
        # A response names a broker by its host and, right behind it, its port in four bytes.
        self._names = [
            (name + self.target.to_bytes(4, "big"), name + self.port.to_bytes(4, "big"))
            for name in (b"127.0.0.1", b"localhost")
        ]

    def _pass_answers(self, source: socket.socket, target: socket.socket) -> None:
        with source.makefile("rb") as responses:
            while size := responses.read(4):
                response = responses.read(int.from_bytes(size, "big"))
                for theirs, ours in self._names:
                    response = response.replace(theirs, ours)
                self._hold()
                target.sendall(size + self._changed(response))


class LoginCutOff(RewritingProxy):
    """Stands in for a broker that ends while a client logs in."""

    def _pass_requests(self, source: socket.socket, target: socket.socket) -> None:
        with source.makefile("rb") as requests:
            while size := requests.read(4):
                request = requests.read(int.from_bytes(size, "big"))
                if int.from_bytes(request[:2], "big") == SASL_HANDSHAKE:
                    return
                target.sendall(size + request)
