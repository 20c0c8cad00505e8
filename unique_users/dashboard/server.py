"""Runs the web server and the follower side by side until a stop is requested."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.types import ASGIApp

from unique_users.config.schema import Config
from unique_users.dashboard.access import Names, Token
from unique_users.dashboard.app import application
from unique_users.dashboard.board import Board, Row, row
from unique_users.dashboard.follower import Follower, Update
from unique_users.dashboard.pages import Pages
from unique_users.errors import UsageError
from unique_users.event_time.buckets import Calendar
from unique_users.metrics.monitor import Monitor
from unique_users.queries.published import BucketRange, Counts
from unique_users.runtime.heartbeat import alive
from unique_users.runtime.signals import Stop

_log = logging.getLogger(__name__)

MESSAGE_BYTES_MAX = 1_024  # from a page
CONNECTIONS_SPARE = 100  # besides the live ones of the pages
READ_SECONDS = 60.0  # the longest that a range may take
STOP_SECONDS = 2
BACKLOG = 128


class _Server(uvicorn.Server):
    """Ends when a stop is requested. uvicorn's own handlers raise the signal again, so the exit code would not be 0."""

    def __init__(self, config: uvicorn.Config, stop: Stop, follower: Follower) -> None:
        super().__init__(config)
        self._stop = stop
        self._follower = follower

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Whether to end; asked ten times a second."""
        alive()
        return self._stop.requested or not self._follower.alive or await super().on_tick(counter)


def listening(host: str, port: int) -> socket.socket:
    """A socket at this address. Raises UsageError."""
    try:
        (family, *_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        made = socket.socket(family)
        if os.name != "nt":  # there it would let another process take the same port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"dashboard.host, dashboard.port: cannot listen at {host} port {port}: {why}") from None
    return made


def address_of(made: socket.socket, host: str, prefix: str) -> str:
    """Where a browser finds the page."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{made.getsockname()[1]}{prefix}/"


def serve(
    config: Config, made: socket.socket, token: str, new_follower: Callable[[Callable[[Update], None]], Follower],
    stop: Stop, monitor: Monitor,
) -> None:  # fmt: skip
    """Serve the page until a stop is requested."""
    asyncio.run(_serve(config, made, token, new_follower, stop, monitor))


async def _serve(
    config: Config, made: socket.socket, token: str, new_follower: Callable[[Callable[[Update], None]], Follower],
    stop: Stop, monitor: Monitor,
) -> None:  # fmt: skip
    loop = asyncio.get_running_loop()
    settings = config.dashboard
    board = Board(config.counter.intervals, Calendar(config.counter.timezone))
    names = Names(settings.host, settings.origins)

    async def read(asked: BucketRange) -> list[Row]:
        answered: asyncio.Future[Counts] = loop.create_future()

        def answer(found: Counts | Exception) -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, answered, found)

        follower.ask(asked, answer)
        found = await asyncio.wait_for(answered, READ_SECONDS)
        calendar = pages.board.calendar
        return [row(bucket, found[bucket], calendar) for bucket in sorted(found)]

    pages = Pages(board, read, settings.pages_max)

    def tell(update: Update) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(pages.update, update)

    if monitor.on:
        from unique_users.dashboard.metrics import DashboardSource  # noqa: PLC0415 - Prometheus's client takes 8 MB

        monitor.source = DashboardSource(lambda: pages.open_pages, lambda: pages.board.state.kind)
    follower = new_follower(tell)
    app = application(pages, read, names, Token(token), settings.prefix)
    server = _Server(_web_server(app, settings.pages_max), stop, follower)
    follower.start()
    await server.serve([made])
    if not follower.alive and not stop.requested:
        raise RuntimeError("the thread that reads the counts has ended: this is a mistake in the program")
    follower.close()


def _web_server(app: ASGIApp, pages_max: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES_MAX,
        ws_per_message_deflate=False,  # what is sent is short, and the same for every page
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=pages_max + CONNECTIONS_SPARE,
        timeout_graceful_shutdown=STOP_SECONDS,
        http="h11",
        log_level="warning",
    )


def _settle(future: "asyncio.Future[Counts]", found: Counts | Exception) -> None:
    if future.done():
        return
    if isinstance(found, Exception):
        future.set_exception(found)
    else:
        future.set_result(found)
