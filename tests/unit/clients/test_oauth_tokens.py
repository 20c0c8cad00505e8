"""Tokens by client credentials: used while they last, and every failure says what to change and shows no secret."""

import socket
from collections.abc import Iterator
from threading import Thread

import pytest
from brokers import config_for
from token_server import LIFE_SECONDS, TokenServer

from unique_users.clients.connect import get_admin
from unique_users.clients.oauth import Tokens, tokens_of
from unique_users.errors import BrokerAwayError, BrokerError, UsageError

SECRET = "s3cr3t of a client"


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with TokenServer({"counter": SECRET}) as server:
        yield server


def settings(server: TokenServer, **over: str | None) -> dict[str, str]:
    told: dict[str, str | None] = {
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_oauthbearer_method": "oidc",
        "sasl_oauthbearer_token_endpoint_url": f"{server.address}/token",
        "sasl_oauthbearer_client_id": "counter",
        "sasl_oauthbearer_client_secret": SECRET,
        **over,
    }
    return {name: value for name, value in told.items() if value is not None}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_token_is_used_for_most_of_its_life_and_to_its_end_if_the_server_is_away(server: TokenServer) -> None:
    clock = Clock()
    tokens = Tokens(settings(server), clock)
    tokens.token()
    clock.now = 0.79 * LIFE_SECONDS
    tokens.token()
    assert len(server.given) == 1
    clock.now = 0.81 * LIFE_SECONDS
    last = tokens.token()
    assert len(server.given) == 2
    tokens._settings["token_endpoint_url"] = "http://127.0.0.1:1/token"
    clock.now += 0.9 * LIFE_SECONDS
    assert tokens.token() == last
    clock.now += 0.2 * LIFE_SECONDS
    with pytest.raises(BrokerAwayError, match=r"no answer from the token server at 127\.0\.0\.1:1"):
        tokens.token()


def test_clients_with_the_same_login_share_a_token(server: TokenServer) -> None:
    assert tokens_of(settings(server)) is tokens_of(settings(server))
    assert len(server.given) == 1
    assert tokens_of({"sasl_mechanism": "PLAIN"}) is None


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
@pytest.mark.parametrize(
    ("over", "error", "said"),
    [
        ({"sasl_oauthbearer_client_secret": "an0ther"}, BrokerError, "refuses: 401: check kafka.sasl_oauthbearer_cl"),
        ({"sasl_oauthbearer_client_id": None}, UsageError, "kafka.sasl_oauthbearer_client_id: OAUTHBEARER needs it"),
        ({"sasl_oauthbearer_method": None}, UsageError, "kafka.sasl_oauthbearer_method: OAUTHBEARER needs oidc"),
        ({"sasl_oauthbearer_token_endpoint_url": f"file:///{SECRET}"}, UsageError, "expected an address like https"),
        ({"sasl_oauthbearer_token_endpoint_url": f"http://h:{SECRET}/"}, UsageError, "expected an address like https"),
        ({"sasl_oauthbearer_token_endpoint_url": "http://[h/"}, UsageError, "expected an address like https"),
        ({"sasl_oauthbearer_token_endpoint_url": "http:///token"}, UsageError, "expected an address like https"),
        ({"sasl_oauthbearer_token_endpoint_url": "http://127.0.0.1:1/"}, BrokerAwayError, "no answer from the token"),
    ],
)
def test_a_login_that_cannot_work_says_which_setting_to_change(
    server: TokenServer, client: str, over: dict[str, str | None], error: type[Exception], said: str
) -> None:
    config = config_for("127.0.0.1:1", client=client, kafka=settings(server, security_protocol="SASL_SSL", **over))
    with pytest.raises(error) as raised:
        get_admin(config)
    assert said in str(raised.value)
    assert SECRET not in str(raised.value)
    assert "an0ther" not in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "sends no token: check kafka.sasl_oauthbearer_token_endpoint_url"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "sends no token: check kafka.sasl_oauthbearer_",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"[" * 60_000, "sends no token: check kafka.sasl_oauth"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull", "sends no token: check kafka.sasl_oauthbearer_token_end"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: {server}/token\r\n\r\n",
            "refuses: 302: check kafka.sasl_oauthbearer_token_e",
        ),
    ],
)
def test_an_address_of_something_else_is_named_and_nothing_is_sent_elsewhere(
    server: TokenServer, answer: bytes, said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def serve() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer.replace(b"{server}", server.address.encode()))

        thread = Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{other.getsockname()[1]}/token"
        with pytest.raises(BrokerError) as raised:
            Tokens(settings(server, sasl_oauthbearer_token_endpoint_url=url)).token()
        thread.join()
    assert said in str(raised.value)
    assert server.given == []
