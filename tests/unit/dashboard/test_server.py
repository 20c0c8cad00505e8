"""What the server answers, and to whom, over real sockets."""

import csv
import hashlib
import io
import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from page_server import PageServer, a_day, found, minute
from patience import LIMIT_SECONDS, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from unique_users.commands.dashboard import main, required_token
from unique_users.dashboard import pages
from unique_users.dashboard.access import Names, Token
from unique_users.dashboard.pages import QUESTIONS_MAX
from unique_users.errors import UsageError

TOKEN = "correct horse battery"
RANGE = "from=2026-11-28T11:55:00Z&to=2026-11-28T12:01:00Z"


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer() as server:
        server.say({minute(0): found(4), minute(-1): found(9, 7), minute(-2): found(5, None, "state_lost")})
        until(lambda: is_complete(server), "the counts to be complete", every=0.02)
        yield server


def is_complete(server: PageServer) -> bool:
    text = server.get("/api/now").text
    return "404" not in text and bool(json.loads(text)["complete"])


def live(server: PageServer, **rest: Any) -> ClientConnection:
    connection: ClientConnection = connect(f"ws://127.0.0.1:{server.port}/live", **rest)
    return connection


def test_counts_are_answered_as_json(server: PageServer) -> None:
    answer = server.get(f"/api/counts?interval=minute&{RANGE}")
    assert answer.getheader("content-type") == "application/json"
    assert json.loads(answer.text) == {
        "interval": "minute",
        "timezone": "UTC",
        "from": "2026-11-28T11:55:00Z",
        "to": "2026-11-28T12:01:00Z",
        "buckets": [
            {
                "start": "2026-11-28T11:58:00Z",
                "end": "2026-11-28T11:59:00Z",
                "unique_users": 5,
                "at_end": None,
                "whole": False,
                "why": ["state_lost"],
            },
            {
                "start": "2026-11-28T11:59:00Z",
                "end": "2026-11-28T12:00:00Z",
                "unique_users": 9,
                "at_end": 7,
                "whole": True,
            },
            {
                "start": "2026-11-28T12:00:00Z",
                "end": "2026-11-28T12:01:00Z",
                "unique_users": 4,
                "at_end": None,
                "whole": True,
            },
        ],
    }


@pytest.mark.parametrize("how", [{"path": "&format=csv"}, {"accept": "text/csv"}])
def test_counts_are_answered_as_csv(server: PageServer, how: dict[str, str]) -> None:
    answer = server.get(f"/api/counts?{RANGE}{how.pop('path', '')}", **how)
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["unique_users"], row["at_end"], row["whole"], row["why"]) for row in rows] == [
        ("5", "", "false", "state_lost"),
        ("9", "7", "true", ""),
        ("4", "", "true", ""),
    ]


def test_an_answer_that_has_not_changed_is_not_sent_again(server: PageServer) -> None:
    path = f"/api/counts?{RANGE}"
    tag = server.get(path).getheader("etag") or ""
    again = server.get(path, if_none_match=tag)
    assert (again.status, again.text) == (304, "")
    server.say({minute(-1): found(10, 7)})
    until(lambda: server.get(path, if_none_match=tag).status == 200, "another answer", every=0.02)


def test_now_has_the_newest_numbers_and_the_state(server: PageServer) -> None:
    now = json.loads(server.get("/api/now").text)
    assert (now["state"], now["since"], now["clock"]) == ("live", None, "2026-11-28T12:00:30Z")
    assert now["rejected"] == {"late": 1_200, "bad_json": 34}
    numbers = now["intervals"]["minute"]
    assert {name: row and row["unique_users"] for name, row in numbers.items()} == {
        "open": 4,
        "closed": 9,
        "before": 5,
        "earlier": None,
    }


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("interval=decade&" + RANGE, "interval: expected one that is counted, minute, got 'decade'"),
        ("from=2026-11-28T11:55:00Z", "to: expected a time like 2016-07-11T13:39:00Z, got None"),
        ("from=yesterday&to=2026-11-28T12:01:00Z", "from: expected a time like"),
        ("from=2026-11-28T11:55:00&to=2026-11-28T12:01:00Z", "from: '2026-11-28T11:55:00' has no zone"),
        ("from=2026-11-28T11:55:30Z&to=2026-11-28T12:01:00Z", "is no whole minute"),
        ("from=2026-11-28T12:01:00Z&to=2026-11-28T11:55:00Z", "expected `to` to be after `from`"),
    ],
)
def test_a_question_that_cannot_be_answered_is_explained(server: PageServer, query: str, said: str) -> None:
    answer = server.get(f"/api/counts?{query}")
    assert answer.status == 400
    assert said in answer.text


def test_an_older_range_is_read_from_the_topic(server: PageServer) -> None:
    server.follower.older = {minute(-5_000): found(77)}
    answer = server.get("/api/counts?from=2026-11-20T00:00:00Z&to=2026-11-28T00:00:00Z")
    assert [row["unique_users"] for row in json.loads(answer.text)["buckets"]] == [77]


def test_the_document_names_every_address_and_every_field(server: PageServer) -> None:
    document = json.loads(server.get("/api/openapi.json").text)
    assert document["paths"].keys() == {"/api/counts", "/api/now"}
    schemas = document["components"]["schemas"]
    counts = json.loads(server.get(f"/api/counts?{RANGE}").text)
    assert counts.keys() == schemas["Counts"]["properties"].keys()
    for row in counts["buckets"]:
        assert set(schemas["Bucket"]["required"]) <= row.keys() <= schemas["Bucket"]["properties"].keys()
    now = json.loads(server.get("/api/now").text)
    assert now.keys() == schemas["Now"]["properties"].keys()
    assert now["state"] in schemas["Now"]["properties"]["state"]["enum"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", ""])
def test_a_request_for_another_host_is_refused(server: PageServer, host: str) -> None:
    for path in ("/", "/api/now", f"/api/counts?{RANGE}", "/static/page.js"):
        assert server.get(path, host=host).status == 421
    with pytest.raises(InvalidStatus):
        live(server, additional_headers={"Host": host})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8360", "127.0.0.1", "[::1]:8360"])
def test_loopback_has_several_names(server: PageServer, host: str) -> None:
    assert server.get("/api/now", host=host).status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
def test_a_request_from_another_site_is_refused(server: PageServer, origin: str) -> None:
    assert server.get("/api/now", origin=origin).status == 403
    with pytest.raises(InvalidStatus):
        live(server, origin=origin)


def test_a_request_from_the_page_itself_is_answered(server: PageServer) -> None:
    assert server.get("/api/now", origin=server.address.rstrip("/")).status == 200
    with live(server, origin=server.address.rstrip("/")) as page:
        assert json.loads(page.recv())["type"] == "hello"


def test_a_proxys_address_is_answered_to_when_it_is_listed() -> None:
    names = Names("127.0.0.1", ["https://stats.example.org"])
    assert names.takes_host("stats.example.org")
    assert names.takes_origin("https://stats.example.org", "127.0.0.1:8360")
    assert not names.takes_origin("https://other.example.org", "stats.example.org")
    assert names.is_https("stats.example.org")
    everywhere = Names("0.0.0.0", [])
    assert everywhere.takes_host("192.168.1.7:8360")
    assert not everywhere.takes_host("evil.example:8360")


def test_every_answer_forbids_what_the_page_does_not_need(server: PageServer) -> None:
    for path in ("/", "/static/page.js", "/api/now", "/nothing"):
        answer = server.get(path)
        policy = answer.getheader("content-security-policy") or ""
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert answer.getheader("x-content-type-options") == "nosniff"
        assert answer.getheader("server") is None
    assert server.get("/static/sign-in.html").status == 404
    assert server.get("/static/..%2fapp.py").status == 404


def test_with_a_token_nothing_is_told_without_it() -> None:
    with PageServer(token=TOKEN) as server:
        server.say(a_day())
        assert server.get("/").status == 401
        for path in ("/api/now", f"/api/counts?{RANGE}"):
            assert server.get(path).status == 401
            assert server.get(path, authorization=f"Bearer {TOKEN}").status == 200
        with pytest.raises(InvalidStatus):
            live(server)
        with live(server, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as page:
            page.recv()


def test_wrong_tokens_run_out() -> None:
    token = Token(TOKEN)
    assert token.is_right(TOKEN)
    for _ in range(10):
        assert not token.is_right("guess")
    assert not token.is_right(TOKEN), "for a minute"
    assert token.is_shown({}, {"unique-users-dashboard": token.cookie})


def test_another_address_than_loopback_takes_a_token_or_a_word() -> None:
    assert required_token("127.0.0.1", "", no_token=False) == ""
    assert required_token("0.0.0.0", "", no_token=True) == ""
    assert required_token("0.0.0.0", TOKEN, no_token=False) == TOKEN
    with pytest.raises(UsageError, match="UNIQUE_USERS_DASHBOARD_TOKEN, or say --no-token"):
        required_token("0.0.0.0", "", no_token=False)
    with pytest.raises(UsageError, match="at least 16 characters"):
        required_token("127.0.0.1", "short", no_token=False)


def test_an_address_that_is_taken_is_a_plain_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="cannot listen at 127"):
        main(["--config", "", "--set", f"dashboard.port={taken.getsockname()[1]}"])


def test_one_page_more_than_allowed_is_refused() -> None:
    with PageServer(pages_max=2) as server, live(server) as first, live(server) as second:
        assert [json.loads(page.recv())["type"] for page in (first, second)] == ["hello", "hello"]
        with live(server) as third, pytest.raises(ConnectionClosed) as closed:
            third.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013


@pytest.mark.parametrize("nonsense", ["no json", '{"interval":7}', '{"interval":"minute","more":1}', "[]"])
def test_a_page_that_sends_nonsense_is_closed(server: PageServer, nonsense: str) -> None:
    with live(server) as page:
        page.send(nonsense)
        assert_closed(page)


def test_a_page_that_asks_too_much_is_closed(server: PageServer) -> None:
    with live(server) as page:
        for _ in range(QUESTIONS_MAX + 1):
            page.send('{"interval":"minute","last":3600}')
        assert_closed(page)


def assert_closed(page: ClientConnection) -> None:
    for _ in range(QUESTIONS_MAX + 5):
        try:
            page.recv(LIMIT_SECONDS)
        except ConnectionClosed:
            return
    pytest.fail("it is still open")


def test_a_page_that_does_not_read_is_dropped_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day of changes each time, never read: it fills the sockets, then the messages that may wait."""
    monkeypatch.setattr(pages, "GAP_SECONDS", 0.01)  # so that this does not take long
    with (
        PageServer(pages_max=2) as server,
        live(server) as other,
        socket.create_connection(("127.0.0.1", server.port)) as slow,
    ):
        server.say(a_day())
        request = "GET /live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        request += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        slow.sendall(request.encode())
        numbers = iter(range(1, 1_000_000))

        def a_lot() -> bool:
            """Whether the slow one was dropped, so that there is room for another; this one gets everything."""
            server.say({minute(n): found(next(numbers)) for n in range(-1_400, 0)})
            while json.loads(other.recv(LIMIT_SECONDS))["type"] != "changes":
                pass
            with live(server) as third:
                try:
                    return bool(json.loads(third.recv(LIMIT_SECONDS))["type"] == "hello")
                except ConnectionClosed:
                    return False

        until(a_lot, "the slow one to be dropped", every=0)


def test_a_stop_ends_the_server_though_pages_are_open() -> None:
    with ExitStack() as opened:
        with PageServer() as server:
            page = opened.enter_context(live(server))
            page.recv()
        assert_closed(page)


def test_what_others_made_is_what_they_published() -> None:
    """The files of uPlot are those of its package, with its licence beside them."""
    static = files("unique_users.dashboard").joinpath("static")
    listed = [line.split() for line in static.joinpath("uPlot.sha256").read_text(encoding="ascii").splitlines()]
    assert {name for _, name in listed} == {"uPlot.iife.min.js", "uPlot.min.css", "uPlot.LICENSE.txt"}
    for digest, name in listed:
        assert hashlib.sha256(static.joinpath(name).read_bytes()).hexdigest() == digest


def test_no_file_of_the_page_names_another_place() -> None:
    static = Path(str(files("unique_users.dashboard"))) / "static"
    for path in [*static.glob("*.html"), *static.glob("*.js"), *static.glob("*.css")]:
        named = re.findall(r"(?:src|href|action)=\"(/|https?:)", path.read_text(encoding="utf-8"))
        assert not named, path.name
