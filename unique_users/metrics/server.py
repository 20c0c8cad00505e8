"""A small web server beside the loop: `/metrics`, `/healthz` and `/readyz`.

While the loop is busy, a request has to wait for the interpreter after each system call. Those waits decide how long it
takes, so there are few system calls: connections stay open, nothing is polled, and an answer is one write. Python's own
time-outs of sockets are a call more before each read and write; those of the system are none. The metrics are rendered
beforehand, once a second: while it renders, a request would lose the interpreter again.
"""

import logging
import socketserver
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from socket import SO_RCVTIMEO, SO_SNDTIMEO, SOL_SOCKET, create_connection, getaddrinfo
from threading import Thread
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from unique_users.config.schema import Metrics
from unique_users.errors import UsageError
from unique_users.metrics.health import Health
from unique_users.runtime.repeating import Repeating

_log = logging.getLogger(__name__)

SAMPLE_SECONDS = 1.0
STALE_SECONDS = 2.0  # metrics that are older are rendered again while somebody waits
SWITCH_SECONDS = 0.0005  # until a busy loop lets another thread run; a request waits for that
IDLE_SECONDS = 90  # until a connection without requests is closed; Prometheus asks at least once a minute
# As the system wants it: milliseconds, or a timeval.
IDLE = struct.pack("L", 1000 * IDLE_SECONDS) if sys.platform == "win32" else struct.pack("ll", IDLE_SECONDS, 0)
WAKE_SECONDS = 0.2
TEXT = "text/plain; charset=utf-8"

Answer = tuple[int, str, bytes]  # status, content type, body


class _Rendered(NamedTuple):
    """All metrics at one moment, in one format."""

    at: float
    accept: str
    content_type: str
    body: bytes


class Pages:
    """What is served: three paths."""

    def __init__(self, registry: CollectorRegistry, health: Health) -> None:
        self._registry = registry
        self._health = health
        self._rendered = self._render("")

    def look(self) -> None:
        """Render the metrics again, in the format that was asked for last."""
        with suppress(Exception):  # whoever asks when they are stale meets the error, and health goes on
            self._rendered = self._render(self._rendered.accept)

    def answer(self, path: str, accept: str) -> Answer:
        """The page at `path`, in a format that the client accepts. Metrics are at most two seconds old."""
        if path == "/metrics":
            rendered = self._rendered
            if rendered.accept != accept or time.monotonic() - rendered.at > STALE_SECONDS:
                rendered = self._rendered = self._render(accept)
            return 200, rendered.content_type, rendered.body
        if path not in {"/healthz", "/readyz"}:
            return 404, TEXT, b"paths: /metrics, /healthz, /readyz\n"
        why = self._health.unhealthy() if path == "/healthz" else self._health.not_ready()
        return (503, TEXT, f"{why}\n".encode()) if why else (200, TEXT, b"ok\n")

    def _render(self, accept: str) -> _Rendered:
        at = time.monotonic()
        encode, content_type = choose_encoder(accept)
        return _Rendered(at, accept, content_type, encode(self._registry))


@contextmanager
def serving(
    settings: Metrics, registry: CollectorRegistry, health: Health, look: Callable[[], None] = lambda: None
) -> Iterator[str]:
    """Serve in separate threads until the context ends; yields the address. Raises UsageError if it is taken.

    `look` is called every second.
    """
    host, port = settings.host, settings.port or 0
    pages = Pages(registry, health)
    try:
        server = _Server((host, port), pages)
    except OSError as error:
        why = error.strerror or error
        raise UsageError(
            f"metrics.host, metrics.port: cannot listen at {host} port {port}: {why}; each process needs its own port,"
            " for example --set metrics.port=9401"
        ) from None
    sampling = Repeating("sample the loop", SAMPLE_SECONDS, _Samples(health, look, pages).take)
    switch_seconds = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_address[1]}"
    finally:
        sys.setswitchinterval(switch_seconds)
        sampling.close(WAKE_SECONDS)
        server.close()


class _Samples:
    def __init__(self, health: Health, look: Callable[[], None], pages: Pages) -> None:
        self._health = health
        self._look = look
        self._pages = pages
        self._at = time.monotonic()

    def take(self) -> None:
        now = time.monotonic()
        self._health.sample(now - self._at)
        self._at = now
        self._look()
        self._pages.look()


class _Server(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that reads slowly does not hold up a stop
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], pages: Pages) -> None:
        ((family, *_), *_) = getaddrinfo(*address)
        self.address_family = family
        self.pages = pages
        self._closed = False
        super().__init__(address, _Handler)
        self._thread = Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        """Bind without looking up the host's name, which may take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def close(self) -> None:
        """Stop answering."""
        self._closed = True
        with suppress(OSError), create_connection(self.server_address[:2], WAKE_SECONDS):  # type: ignore[arg-type]
            pass  # this wakes it up
        self._thread.join(WAKE_SECONDS)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Do not complain about clients that go away."""
        _log.debug("a request for metrics was not answered: %s", sys.exc_info()[1])

    def _run(self) -> None:
        while not self._closed:  # not serve_forever, which polls whether it should end
            self.handle_request()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        """See socketserver."""
        for option in (SO_RCVTIMEO, SO_SNDTIMEO):
            self.request.setsockopt(SOL_SOCKET, option, IDLE)
        super().setup()

    def do_GET(self) -> None:
        """See http.server."""
        self._send(*self.server.pages.answer(self.path.partition("?")[0], self.headers.get("accept", "")))

    do_HEAD = do_GET  # noqa: N815 - so http.server calls it

    def _refuse(self) -> None:
        self.close_connection = True  # its body is not read
        self._send(405, TEXT, b"only GET\n", allow="GET, HEAD")

    do_POST = do_PUT = do_DELETE = _refuse  # noqa: N815

    def _send(self, status: int, content_type: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-type": content_type, "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Requests are not logged."""
