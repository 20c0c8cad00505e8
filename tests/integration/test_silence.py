"""Whoever waits for a broker that does not answer is told why, with either client.

One broker has a listener for each case: clients are sent elsewhere by some of them, and another wants a login.
"""

import logging
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from brokers import config_for
from fakes import FakeClock, FakeStop

from unique_users.clients.connect import get_admin, when_broker_answers
from unique_users.clients.protocols import Admin
from unique_users.config.schema import Config
from unique_users.errors import BrokerError
from unique_users.local_kafka.broker import LocalKafka, free_port

pytestmark = pytest.mark.slow

NOWHERE = "kafka.invalid:29092"  # a name of a container, in this machine's eyes
CLOSED = "127.0.0.1:1"
LISTENERS = ("PLAINTEXT", "UNKNOWN", "REFUSED", "LOGIN")
USER = {"sasl_mechanism": "PLAIN", "sasl_plain_username": "bob", "sasl_plain_password": "bob-secret"}
PASSWORDS = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_bob="bob-secret";'


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The address of each listener."""
    here = {name: f"127.0.0.1:{free_port()}" for name in LISTENERS}
    sent_to = here | {"UNKNOWN": NOWHERE, "REFUSED": CLOSED}
    controller = f"localhost:{free_port()}"
    kinds = [*(f"{name}:{'SASL_' if name == 'LOGIN' else ''}PLAINTEXT" for name in LISTENERS), "CONTROLLER:PLAINTEXT"]
    properties = {
        "listeners": ",".join(f"{name}://{at}" for name, at in {**here, "CONTROLLER": controller}.items()),
        "advertised.listeners": ",".join(f"{name}://{at}" for name, at in sent_to.items()),
        "listener.security.protocol.map": ",".join(kinds),
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.quorum.voters": f"1@{controller}",
        "listener.name.login.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.login.plain.sasl.jaas.config": PASSWORDS,
    }
    port = int(here["PLAINTEXT"].rpartition(":")[2])
    data = tmp_path_factory.mktemp("sends-elsewhere") / "data"
    with LocalKafka("4.3.1", data, port, host="127.0.0.1", heap="256m", properties=properties):
        yield here


class WebServer(BaseHTTPRequestHandler):
    """Answers whatever comes."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def web() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), WebServer) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def hangs_up() -> Iterator[str]:
    """What a container's proxy does while nothing listens in the container."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(params=["kafka-python", "librdkafka"])
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def said_about(config: Config, caplog: pytest.LogCaptureFixture) -> str:
    """What is said at the first attempt to describe a topic; nothing may be left to wait for then."""
    clock = FakeClock()

    class StopsThen(FakeStop):
        def wait(self, seconds: float) -> bool:
            self.request()
            return super().wait(seconds)

    def described() -> bool:
        admin = get_admin(config)
        try:
            return admin.describe("any") is None
        finally:
            admin.close()

    with caplog.at_level(logging.INFO, logger="unique_users"):
        assert when_broker_answers(config, StopsThen(clock), described) is None
    (line,) = [record.message for record in caplog.records]
    start = f"waiting for a Kafka broker at {', '.join(config.bootstrap_servers)}: "
    assert line.startswith(start), line
    assert "bob" not in line
    return line.removeprefix(start).removesuffix(" …")


WAY_OUT = "set the broker's advertised.listeners to an address that this machine can reach"


def test_a_name_that_is_known_to_the_broker_only(
    client: str, addresses: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    said = said_about(config_for(addresses["UNKNOWN"], client=client), caplog)
    why = "the name 'kafka.invalid' cannot be resolved here"
    assert said == f"it answers, but sends its clients to {NOWHERE} ({why}): {WAY_OUT}"


def test_an_address_where_nothing_listens(
    client: str, addresses: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    said = said_about(config_for(addresses["REFUSED"], client=client), caplog)
    why = "connection refused: nothing listens there"
    assert said == f"it answers, but sends its clients to {CLOSED} ({why}): {WAY_OUT}"


def test_a_broker_that_wants_a_login(client: str, addresses: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    said = said_about(config_for(addresses["LOGIN"], client=client), caplog)
    assert said == "it is up, but does not answer without a login: set kafka.security_protocol to SASL_PLAINTEXT"


LOGIN: dict[str, Any] = {**USER, "security_protocol": "SASL_PLAINTEXT"}


def test_a_login_where_none_is_taken_with_kafka_python(
    addresses: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    said = said_about(config_for(addresses["PLAINTEXT"], kafka=LOGIN), caplog)
    assert said == "it accepts only clients without a login: set kafka.security_protocol to PLAINTEXT"


def test_a_login_where_none_is_taken_with_librdkafka(addresses: dict[str, str]) -> None:
    with pytest.raises(
        BrokerError, match="check the security_protocol, as that listener takes no login, of the `kafka:`"
    ):
        get_admin(config_for(addresses["PLAINTEXT"], client="librdkafka", kafka=LOGIN))


@pytest.mark.parametrize(
    ("wrong", "fix"),
    [
        ({"sasl_plain_password": "s3cr3t"}, "check the user and password of the `kafka:` section"),
        ({"sasl_mechanism": "SCRAM-SHA-512"}, "check the sasl_mechanism of the `kafka:` section"),
    ],
)
def test_a_wrong_login_ends_the_wait_and_names_what_to_change(
    client: str, addresses: dict[str, str], wrong: dict[str, str], fix: str
) -> None:
    with pytest.raises(BrokerError) as refused:
        get_admin(config_for(addresses["LOGIN"], client=client, kafka=LOGIN | wrong))
    assert fix in str(refused.value)
    assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1:1", "connection refused: nothing listens there"),
        ("broker.invalid:9092", "the name 'broker.invalid' cannot be resolved here"),
    ],
)
def test_nobody_there(client: str, address: str, why: str, caplog: pytest.LogCaptureFixture) -> None:
    assert said_about(config_for(address, client=client), caplog) == why


def test_a_web_server(client: str, web: str, caplog: pytest.LogCaptureFixture) -> None:
    assert said_about(config_for(web, client=client), caplog) == "what answers there is not Kafka, but a web server"


def test_a_port_with_nothing_behind_it(client: str, hangs_up: str, caplog: pytest.LogCaptureFixture) -> None:
    said = said_about(config_for(hangs_up, client=client), caplog)
    assert said.startswith("it accepts connections and closes them at once")


def test_of_several_each_is_told(client: str, caplog: pytest.LogCaptureFixture) -> None:
    config = config_for("127.0.0.1:1", client=client, kafka={"bootstrap_servers": ["127.0.0.1:1", "a.invalid:2"]})
    refused, unknown = "connection refused: nothing listens there", "the name 'a.invalid' cannot be resolved here"
    assert said_about(config, caplog) == f"127.0.0.1:1 ({refused}), a.invalid:2 ({unknown})"


def test_the_brokers_are_named_as_clients_are_sent_to_them(client: str, addresses: dict[str, str]) -> None:
    admin: Admin = get_admin(config_for(addresses["UNKNOWN"], client=client))
    assert admin.brokers() == [NOWHERE]
    admin.close()
