"""The open pages: each gets the view that it asks for, then what changes. One event loop, no locks.

A page that does not read fast enough is dropped: nothing is kept for it beyond a few messages.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from unique_users.dashboard import answers
from unique_users.dashboard.board import Board, Row
from unique_users.dashboard.follower import Update
from unique_users.queries.published import BucketRange, RangeError

MESSAGES_MAX = 16  # waiting for one page; a page that is behind by more is dropped
SEND_SECONDS = 20.0  # the longest that one message may take
GAP_SECONDS = 0.25  # between two messages to a page
PAGES_PER_SECOND = 100  # with more pages open than this times the gap, the gap grows: sending is what costs
QUESTIONS_MAX, QUESTIONS_SECONDS = 20, 10.0  # from one page
TRY_AGAIN_LATER = 1013  # the close code

ReadRange = Callable[[BucketRange], Awaitable[list[Row]]]


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a page asks for: the last seconds, or a range in epoch seconds."""

    interval: str
    last: int | None = msgspec.field(default=None)
    start: int | None = msgspec.field(default=None, name="from")
    end: int | None = msgspec.field(default=None, name="to")


class Page:
    """One open page: what it looks at, and what waits to be sent to it."""

    def __init__(self, interval: str) -> None:
        self.interval = interval
        self.messages: asyncio.Queue[bytes] = asyncio.Queue(MESSAGES_MAX)
        self.too_slow = asyncio.Event()

    def send(self, message: bytes) -> None:
        """Send a message when its turn comes; give the page up if too many wait."""
        try:
            self.messages.put_nowait(message)
        except asyncio.QueueFull:
            self.too_slow.set()


class Pages:
    """Tells all open pages what changes."""

    def __init__(self, board: Board, read: ReadRange, pages_max: int) -> None:
        self.board = board
        self._read = read
        self._pages_max = pages_max
        self._open: set[Page] = set()
        self._due: dict[str, dict[int, Row | int]] = {}
        self._sent_at = 0.0
        self._sending: asyncio.TimerHandle | None = None

    @property
    def open_pages(self) -> int:
        """How many pages are open."""
        return len(self._open)

    def update(self, update: Update) -> None:
        """Take in what the follower says, and tell the pages soon."""
        board = self.board
        if update.anew:
            self.board = board = Board(board.intervals, board.calendar)
            self._due.clear()
        became_complete = update.complete and not board.complete
        state_changed = update.state != board.state
        board.complete, board.state = update.complete, update.state
        for interval, rows in board.update(update.changed, update.found).items():
            due = self._due.setdefault(interval, {})
            due |= {at if isinstance(at, int) else at.start: at for at in rows}
        for interval, since in update.since.items():
            board.holds_from(interval, since)
        if became_complete or update.anew:
            self._due.clear()
            for page in self._open:
                page.send(answers.hello(board))  # and it asks again
        if state_changed:
            message = answers.state_message(update.state, time.time())
            for page in self._open:
                page.send(message)
        if self._due and self._sending is None:
            gap = max(GAP_SECONDS, len(self._open) / PAGES_PER_SECOND)
            loop = asyncio.get_running_loop()
            self._sending = loop.call_later(max(0.0, self._sent_at + gap - time.monotonic()), self._send_changes)

    def _send_changes(self) -> None:
        self._sending, self._sent_at = None, time.monotonic()
        due, self._due = self._due, {}
        for interval, rows in due.items():
            pages = [page for page in self._open if page.interval == interval]
            if pages:
                message = answers.changes(interval, rows.values(), self.board.figures(interval))
                for page in pages:
                    page.send(message)

    async def serve(self, socket: WebSocket) -> None:
        """Serve a page until it is closed, or too slow."""
        await socket.accept()
        if len(self._open) >= self._pages_max:
            await socket.close(TRY_AGAIN_LATER, "too many pages are open")
            return
        page = Page(self.board.intervals[0])
        page.send(answers.hello(self.board))
        page.send(answers.state_message(self.board.state, time.time()))
        self._open.add(page)
        jobs = [asyncio.create_task(job) for job in (self._talk(page, socket), _listen_until_slow(page))]
        jobs.append(asyncio.create_task(self._listen(page, socket)))
        try:
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open.discard(page)
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            with suppress(Exception):  # it may be gone already
                async with asyncio.timeout(1):
                    await socket.close(TRY_AGAIN_LATER)

    async def _talk(self, page: Page, socket: WebSocket) -> None:
        while True:
            message = await page.messages.get()
            async with asyncio.timeout(SEND_SECONDS):  # before 3.12, wait_for may lose the cancellation below
                await socket.send({"type": "websocket.send", "text": message.decode()})

    async def _listen(self, page: Page, socket: WebSocket) -> None:
        """Answer a page's questions, one after the other; end with a page that asks too much or nonsense."""
        asked_at: list[float] = []
        with suppress(WebSocketDisconnect, msgspec.DecodeError):
            while True:
                text = await socket.receive_text()
                now = time.monotonic()
                asked_at = [at for at in asked_at if now - at < QUESTIONS_SECONDS] + [now]
                if len(asked_at) > QUESTIONS_MAX:
                    return
                page.send(await self._answer(page, msgspec.json.decode(text, type=Wanted)))

    async def _answer(self, page: Page, wanted: Wanted) -> bytes:
        board = self.board
        if wanted.interval not in board.intervals:
            return answers.trouble(f"{wanted.interval} is not counted; counted are {', '.join(board.intervals)}")
        page.interval = wanted.interval
        asked = board.last(wanted.interval, wanted.last or 0)
        if wanted.start is not None and wanted.end is not None:
            asked = BucketRange(wanted.interval, wanted.start, wanted.end)
        rows = board.rows(asked)
        if rows is None and not board.complete:
            rows = board.known(asked)
        try:
            found = rows if rows is not None else await self._read(asked)
        except RangeError as error:
            return answers.trouble(str(error))
        except TimeoutError:
            return answers.trouble("This range could not be read in time. Ask again in a minute.")
        return answers.view(asked, found, board.figures(wanted.interval), complete=board.complete)


async def _listen_until_slow(page: Page) -> None:
    await page.too_slow.wait()
