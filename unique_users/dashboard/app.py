"""The web application: the page's files, the answers, the live connection; and what every request has to pass."""

import gzip
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from unique_users.dashboard import answers
from unique_users.dashboard.access import COOKIE, Names, Token
from unique_users.dashboard.pages import Pages, ReadRange
from unique_users.queries.published import RangeError

# Nothing from elsewhere, nothing inline, in no frame.
SECURITY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "json": "application/json",
    "txt": "text/plain; charset=utf-8",
}
FORM_BYTES_MAX = 4_096


class File(NamedTuple):
    """A file of the page, as it is sent."""

    kind: str
    body: bytes
    packed: bytes
    etag: str


def page_files() -> dict[str, File]:
    """The files of the page by name."""
    found = {}
    for path in files("unique_users.dashboard").joinpath("static").iterdir():
        kind = _KINDS.get(path.name.rpartition(".")[2])
        if kind and path.is_file():
            body = path.read_bytes()
            found[path.name] = File(kind, body, gzip.compress(body, 9, mtime=0), etag_of(body))
    return found


def etag_of(body: bytes) -> str:
    """The entity tag of a body."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def application(pages: Pages, read: ReadRange, names: Names, token: Token, prefix: str) -> ASGIApp:
    """Put everything together."""
    handlers = _Handlers(pages, read, names, token, prefix)
    app = Starlette(
        routes=[
            Route("/", handlers.index),
            Route("/sign-in", handlers.sign_in, methods=["POST"]),
            Route("/static/{name}", handlers.static),
            Route("/api/now", handlers.now),
            Route("/api/counts", handlers.counts),
            Route("/api/openapi.json", handlers.openapi),
            WebSocketRoute("/live", handlers.live),
        ]
    )
    return _Guard(app, names, prefix)


class _Guard:
    """What every request has to pass: its path below the prefix, `Host` and `Origin`. Adds the headers to answers."""

    def __init__(self, app: ASGIApp, names: Names, prefix: str) -> None:
        self._app = app
        self._names = names
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = HTTPConnection(scope).headers
        host = headers.get("host", "")

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.encode(), value.encode()) for name, value in SECURITY.items()]
            await send(message)

        if not self._names.takes_host(host):
            refusal = f"this server does not answer to the host {host!r}: list its address in dashboard.origins"
            await _refuse(scope, receive, send_guarded, 421, refusal)
        elif not self._names.takes_origin(headers.get("origin"), host):
            await _refuse(scope, receive, send_guarded, 403, "requests from other sites are not answered")
        else:
            path = scope["path"]
            if self._prefix and (path == self._prefix or path.startswith(f"{self._prefix}/")):
                path = path.removeprefix(self._prefix)
            if path:
                await self._app({**scope, "path": path, "root_path": ""}, receive, send_guarded)
            else:  # the page's own addresses are relative: they need the slash
                name = self._prefix.rpartition("/")[2]
                await RedirectResponse(f"{name}/", 308)(scope, receive, send_guarded)


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, why: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": why[:120]})
    else:
        await PlainTextResponse(f"{why}\n", status)(scope, receive, send)


class _Handlers:
    """What answers each address."""

    def __init__(self, pages: Pages, read: ReadRange, names: Names, token: Token, prefix: str) -> None:
        self._pages = pages
        self._read = read
        self._names = names
        self._token = token
        self._prefix = prefix
        self._files: Mapping[str, File] = page_files()

    async def index(self, request: Request) -> Response:
        known = self._knows(request)
        answer = self._file(request, "index.html" if known else "sign-in.html")
        answer.status_code = answer.status_code if known else 401
        return answer

    async def static(self, request: Request) -> Response:
        # Without the token, too: the files hold nothing but the page, and the way in needs its style.
        name = request.path_params["name"]
        if name not in self._files or name.endswith(".html"):
            return PlainTextResponse("no such file\n", 404)
        return self._file(request, name)

    async def openapi(self, request: Request) -> Response:
        return self._file(request, "openapi.json")

    async def sign_in(self, request: Request) -> Response:
        """Take the token from the form, and leave a cookie that scripts cannot read and other sites cannot use."""
        if int(request.headers.get("content-length") or FORM_BYTES_MAX + 1) > FORM_BYTES_MAX:
            return PlainTextResponse("too long\n", 413)
        given = (await request.body()).decode(errors="replace").strip()
        if not self._token.is_right(given):
            return PlainTextResponse("wrong token\n", 403)
        answer = Response(status_code=204)
        answer.set_cookie(
            COOKIE,
            self._token.cookie,
            path=self._prefix or "/",
            secure=self._names.is_https(request.headers.get("host", "")),
            httponly=True,
            samesite="strict",
            max_age=30 * 86_400,
        )
        return answer

    async def now(self, request: Request) -> Response:
        if not self._knows(request):
            return _unknown()
        return _body(request, answers.now_json(self._pages.board), "application/json")

    async def counts(self, request: Request) -> Response:
        if not self._knows(request):
            return _unknown()
        board, asked = self._pages.board, request.query_params
        as_csv = asked.get("format", "csv" if "text/csv" in request.headers.get("accept", "") else "json") == "csv"
        try:
            wanted = answers.range_of(
                asked.get("interval", board.intervals[0]), asked.get("from"), asked.get("to"), board.intervals
            )
            rows = board.rows(wanted)
            if rows is None:
                rows = await self._read(wanted)
        except answers.QuestionError as error:
            return PlainTextResponse(f"{error}\n", 400)
        except RangeError as error:
            return PlainTextResponse(f"{error}\n", 429, {"retry-after": "5"})
        except TimeoutError:
            return PlainTextResponse("the counts are still being read: ask again\n", 503, {"retry-after": "5"})
        body = (answers.as_csv if as_csv else answers.as_json)(wanted, rows, board.calendar)
        return _body(request, body, "text/csv; charset=utf-8; header=present" if as_csv else "application/json")

    async def live(self, socket: WebSocket) -> None:
        if not self._knows(socket):
            await socket.close(1008, "the token is missing")
            return
        await self._pages.serve(socket)

    def _knows(self, request: HTTPConnection) -> bool:
        return self._token.is_shown(request.headers, request.cookies)

    def _file(self, request: Request, name: str) -> Response:
        file = self._files[name]
        headers = {"etag": file.etag, "cache-control": "no-cache", "vary": "accept-encoding"}
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(file.packed, headers={**headers, "content-encoding": "gzip"}, media_type=file.kind)
        return Response(file.body, headers=headers, media_type=file.kind)


def _unknown() -> Response:
    return PlainTextResponse("the token is missing or wrong\n", 401, {"www-authenticate": "Bearer"})


def _body(request: Request, body: bytes, kind: str) -> Response:
    """An answer with its entity tag, or only that if the asker has it already."""
    headers = {"etag": etag_of(body), "cache-control": "no-cache", "vary": "accept"}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=kind)
