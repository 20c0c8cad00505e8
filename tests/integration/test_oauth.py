"""A broker that takes tokens of an identity provider, which it checks by its published key; both clients log in so."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Running, parsed
from secured import error_lines
from token_server import TokenServer

from unique_users.demo.sample import frames
from unique_users.local_kafka.broker import LocalKafka
from unique_users.local_kafka.probe import free_port
from unique_users.local_kafka.security import Security

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
SECRET = "a secret: with/odd+signs"
FRAMES = b"\n".join(frames(1_000)) + b"\n"


@pytest.fixture(scope="module")
def tokens() -> Iterator[TokenServer]:
    with TokenServer({"admin": SECRET, "nobody": SECRET}) as server:
        yield server


@pytest.fixture(scope="module")
def broker_with_tokens(tokens: TokenServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    directory = tmp_path_factory.mktemp("oauth")
    security = Security(directory / "data" / "secure")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAVA_TOOL_OPTIONS", tokens.java_options())
        kafka = LocalKafka(
            "4.3.1", directory / "data", free_port(), properties=tokens.broker_settings(), security=security
        )
        kafka.start()
    yield kafka
    kafka.stop()


def running(kafka: LocalKafka, tokens: TokenServer, directory: Path, client: str, **over: str) -> Running:
    """The scripts with a login by tokens; the secret comes from a file."""
    file = directory / "client-secret"
    file.write_text(f"{SECRET}\n")
    login = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_oauthbearer_method": "oidc",
        "sasl_oauthbearer_token_endpoint_url": f"{tokens.address}/token",
        "sasl_oauthbearer_client_id": "admin",
        "sasl_oauthbearer_client_secret": f"${{file:{file}}}",
        "ssl_cafile": str(kafka.data / "secure" / "ca.pem"),
        **over,
    }
    settings = [f"client={client}", *(f"kafka.{name}={value}" for name, value in login.items())]
    return Running(kafka.bootstrap_servers, directory, settings)


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_frames_are_counted_by_who_logs_in_with_tokens(
    broker_with_tokens: LocalKafka, tokens: TokenServer, tmp_path: Path, client: str
) -> None:
    scripts = running(broker_with_tokens, tokens, tmp_path, client)
    before = len(tokens.given)
    scripts.run("producer", "-", stdin=FRAMES)
    scripts.run("bucketer", "--until-caught-up")
    counted = scripts.run("counter", "--until-caught-up", "--format", "json")
    assert parsed(counted.stdout) == scripts.recount(FRAMES)
    assert tokens.given[before:].count("admin") >= 3
    assert SECRET not in counted.stderr


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_a_wrong_login_is_one_line_without_the_secret(
    broker_with_tokens: LocalKafka, tokens: TokenServer, tmp_path: Path, client: str
) -> None:
    cases = {
        "the token server at 127.0.0.1": {"sasl_oauthbearer_client_secret": "wrong-and-secret"},
        "check the rights": {"sasl_oauthbearer_client_id": "nobody"},
        "sasl_oauthbearer_token_endpoint_url": {"sasl_oauthbearer_token_endpoint_url": "wrong-and-secret"},
    }
    for said, over in cases.items():
        code = 2 if "endpoint" in said else 1
        done = running(broker_with_tokens, tokens, tmp_path, client, **over).run("counter", code=code)
        lines = error_lines(done.stderr)
        assert len(lines) == 1, done.stderr
        assert said in lines[0]
        assert "wrong-and-secret" not in done.stderr
        assert SECRET not in done.stderr
        assert "Traceback" not in done.stderr


def test_a_broker_refuses_a_token_that_another_server_signed(broker_with_tokens: LocalKafka, tmp_path: Path) -> None:
    with TokenServer({"admin": SECRET}) as other:
        for client in ("kafka-python", "librdkafka"):
            done = running(broker_with_tokens, other, tmp_path, client).run("counter", code=1)
            assert "refuses" in error_lines(done.stderr)[0]
