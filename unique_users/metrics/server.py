"""A small web server beside the loop: `/metrics`, `/healthz` and `/readyz`."""

import logging
import socketserver
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socket import getaddrinfo
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from unique_users.config.schema import Metrics
from unique_users.errors import UsageError
from unique_users.metrics.health import Health

_log = logging.getLogger(__name__)

SAMPLE_SECONDS = 1.0
REQUEST_SECONDS = 5.0  # for a client to send its request and take the answer

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


def application(registry: CollectorRegistry, health: Health) -> Application:
    """Answers GET and HEAD for three paths, and 404 for all others."""
    metrics: Application = make_wsgi_app(registry)

    def answer(environ: Environ, start: StartResponse) -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", ""), environ.get("REQUEST_METHOD")
        if path not in {"/metrics", "/healthz", "/readyz"}:
            return _text(start, "404 Not Found", "paths: /metrics, /healthz, /readyz")
        if method not in {"GET", "HEAD"}:
            return _text(start, "405 Method Not Allowed", "only GET", [("allow", "GET, HEAD")])
        if path == "/metrics":
            return metrics(environ, start)
        why = health.unhealthy() if path == "/healthz" else health.not_ready()
        return _text(start, "503 Service Unavailable" if why else "200 OK", why or "ok")

    return answer


def _text(start: StartResponse, status: str, said: str, headers: Iterable[tuple[str, str]] = ()) -> Iterable[bytes]:
    body = f"{said}\n".encode()
    start(status, [("content-type", "text/plain; charset=utf-8"), ("content-length", str(len(body))), *headers])
    return [body]


@contextmanager
def serving(settings: Metrics, registry: CollectorRegistry, health: Health) -> Iterator[str]:
    """Serve in threads of its own until the context ends; gives the address. Raises UsageError if it is taken."""
    host, port = settings.host, settings.port or 0
    try:
        server = _Server((host, port), _Handler, health)
    except OSError as error:
        why = error.strerror or error
        raise UsageError(
            f"metrics.host, metrics.port: cannot listen at {host} port {port}: {why}; each process needs a port of its"
            " own, for example --set metrics.port=9401"
        ) from None
    server.set_app(application(registry, health))
    thread = Thread(target=server.serve_forever, args=(SAMPLE_SECONDS,), name="metrics", daemon=True)
    thread.start()
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False  # a client that reads slowly does not hold up a stop
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler], health: Health) -> None:
        self._health = health
        self._sampled_at = time.monotonic()
        ((family, *_), *_) = getaddrinfo(*address)
        self.address_family = family
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without asking for the name of the host, which may take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def service_actions(self) -> None:
        """Sample the loop; called every `SAMPLE_SECONDS`."""
        now = time.monotonic()
        self._health.sample(now - self._sampled_at)
        self._sampled_at = now

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Say nothing of clients that go away."""
        _log.debug("a request for metrics was not answered: %s", sys.exc_info()[1])


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Requests are not logged."""
