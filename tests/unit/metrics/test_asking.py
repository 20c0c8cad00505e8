"""`unique-users healthy` asks a real server for its health, and its exit code is the answer."""

import socket
import threading

import pytest
from prometheus_client import CollectorRegistry
from test_metrics_server import Unwell

from unique_users.commands import healthy
from unique_users.config.schema import Metrics
from unique_users.errors import UsageError
from unique_users.metrics.asking import Answer, asked
from unique_users.metrics.server import serving


@pytest.mark.parametrize(
    ("unhealthy", "not_ready", "flags", "code", "said"),
    [
        ("", "", [], 0, "ok"),
        ("", "", ["--ready"], 0, "ok"),
        ("", "waiting for the broker", [], 0, "ok"),
        ("", "waiting for the broker", ["--ready"], 1, "waiting for the broker"),
        ("the loop has not moved for 31 s", "", [], 1, "the loop has not moved for 31 s"),
    ],
)
def test_the_exit_code_says_it_and_the_output_says_why(
    unhealthy: str, not_ready: str, flags: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Metrics(port=0), CollectorRegistry(), Unwell(unhealthy, not_ready)) as address:
        port = address.rpartition(":")[2]
        assert healthy.main(["--config", "", "--set", f"metrics.port={port}", *flags]) == code
    assert capsys.readouterr().out == f"{said}\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "localhost"])
def test_who_listens_everywhere_is_asked_at_loopback(host: str) -> None:
    with serving(Metrics(host=host, port=0), CollectorRegistry(), Unwell("", "")) as address:
        port = int(address.rpartition(":")[2])
        assert asked(Metrics(host=host, port=port), "/healthz") == Answer(well=True, said="ok")


def test_no_answer_is_not_healthy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert asked(Metrics(port=port), "/healthz") == (
            False,
            f"no answer at 127.0.0.1 port {port}: Connection refused",
        )


def test_something_else_at_the_port_is_not_healthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1_000)
                client.sendall(b"SSH-2.0\r\n")

        threading.Thread(target=answer, daemon=True).start()
        port = server.getsockname()[1]
        assert asked(Metrics(port=port), "/healthz") == (False, f"no answer at 127.0.0.1 port {port}: SSH-2.0")


@pytest.mark.parametrize("setting", ["metrics.port=null", "metrics.port=0"])
def test_without_a_port_there_is_nobody_to_ask(setting: str) -> None:
    with pytest.raises(UsageError, match=r"metrics\.port: only a process with a port can be asked"):
        healthy.main(["--config", "", "--set", setting])
