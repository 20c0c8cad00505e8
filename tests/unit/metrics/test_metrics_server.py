"""The web server beside the loop: three paths, and nothing else."""

import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, RemoteDisconnected
from threading import Event
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from patience import LIMIT_SECONDS
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from unique_users.config.schema import Metrics
from unique_users.errors import UsageError
from unique_users.metrics import server
from unique_users.metrics.health import Health
from unique_users.metrics.server import Pages, serving
from unique_users.runtime.heartbeat import Pulse


class Unwell(Health):
    """Says what it is told."""

    def __init__(self, unhealthy: str, not_ready: str) -> None:
        super().__init__(Pulse(), lambda: not_ready)
        self.said = unhealthy

    def unhealthy(self) -> str:
        return self.said


class Failing(Collector):
    """Cannot be collected while it fails."""

    fails = False

    def collect(self) -> Iterator[Metric]:
        assert not self.fails
        yield GaugeMetricFamily("answer", "Of everything.", 42)


@contextmanager
def served(unhealthy: str = "", not_ready: str = "", host: str = "127.0.0.1") -> Iterator[str]:
    registry = CollectorRegistry()
    Gauge("answer", "Of everything.", registry=registry).set(42)
    with serving(Metrics(host=host, port=0), registry, Unwell(unhealthy, not_ready)) as address:
        yield address


def asked(address: str, method: str = "GET") -> tuple[int, str]:
    try:
        with urlopen(Request(address, method=method), timeout=LIMIT_SECONDS) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def test_metrics_are_at_their_path_only() -> None:
    with served() as address:
        status, text = asked(f"{address}/metrics")
        assert (status, "answer 42.0\n" in text) == (200, True)
        for path in ("", "/", "/metrics/", "/x", "/healthz/live"):
            assert asked(address + path) == (404, "paths: /metrics, /healthz, /readyz\n")


def test_health_and_readiness_say_why_not() -> None:
    with served() as address:
        assert asked(f"{address}/healthz") == asked(f"{address}/readyz") == (200, "ok\n")
    with served("it stands still", "no partition is assigned") as address:
        assert asked(f"{address}/healthz") == (503, "it stands still\n")
        assert asked(f"{address}/readyz") == (503, "no partition is assigned\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(method: str) -> None:
    with served() as address:
        for path in ("metrics", "healthz", "readyz"):
            assert asked(f"{address}/{path}", method) == (405, "only GET\n")


def test_a_head_request_gets_no_body() -> None:
    with served() as address:
        assert asked(f"{address}/healthz", "HEAD") == (200, "")


def test_a_port_that_is_taken_is_a_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(UsageError, match=f"cannot listen at 127.0.0.1 port {port}: .*--set metrics.port="),
            serving(Metrics(port=port), CollectorRegistry(), Unwell("", "")),
        ):
            pass


def test_a_host_that_is_none_is_a_clear_error() -> None:
    with (
        pytest.raises(UsageError, match=r"metrics\.host, metrics\.port: cannot listen at no\.such\.host\.invalid"),
        served(host="no.such.host.invalid"),
    ):
        pass


def test_a_client_that_says_nothing_holds_nobody_up() -> None:
    with served() as address:
        host, _, port = address.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port))):
            assert asked(f"{address}/healthz") == (200, "ok\n")


@pytest.mark.parametrize("begun", [b"", b"GET /metrics HT"])
@pytest.mark.skipif(sys.platform == "win32", reason="the system counts this time in milliseconds there")
def test_a_connection_without_requests_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(server, "IDLE", struct.pack("ll", 0, 100_000))
    with served() as address:
        host, _, port = address.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), LIMIT_SECONDS) as connection:
            connection.sendall(begun)
            while connection.recv(1_000):
                pass


def test_a_connection_stays_open() -> None:
    with served() as address:
        connection = HTTPConnection(address.removeprefix("http://"), timeout=LIMIT_SECONDS)
        for path, status in (("/metrics", 200), ("/x", 404), ("/healthz", 200)):
            connection.request("GET", path)
            answer = connection.getresponse()
            assert answer.status == status
            answer.read()
            assert not answer.will_close
        connection.close()


def test_prometheus_is_given_the_format_that_it_asks_for() -> None:
    with served() as address:
        asking = Request(f"{address}/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
        with urlopen(asking, timeout=LIMIT_SECONDS) as answer:
            assert answer.headers["content-type"].startswith("application/openmetrics-text")
            assert answer.read().endswith(b"# EOF\n")


def test_it_lets_go_of_its_port_at_once_even_while_a_connection_is_open() -> None:
    with served() as address:
        host, _, port = address.removeprefix("http://").rpartition(":")
        connection = socket.create_connection((host, int(port)))
    with connection, serving(Metrics(port=int(port)), CollectorRegistry(), Unwell("", "")):
        pass


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_what_changes_is_rendered_again_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, accept: str) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("answer", "Of everything.", registry=registry)
    pages = Pages(registry, Unwell("", ""))
    assert b"answer 0.0" in pages.answer("/metrics", accept)[2]
    gauge.set(42)
    pages.look()
    monkeypatch.setattr(pages, "_render", None)
    assert b"answer 42.0" in pages.answer("/metrics", accept)[2]


def test_stale_metrics_are_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STALE_SECONDS", -1.0)
    registry = CollectorRegistry()
    gauge = Gauge("answer", "Of everything.", registry=registry)
    held_up = Event()

    def look() -> None:
        held_up.wait()

    with serving(Metrics(port=0), registry, Unwell("", ""), look) as address:
        gauge.set(42)
        assert "answer 42.0\n" in asked(f"{address}/metrics")[1]
        held_up.set()


def test_an_error_is_met_by_who_asks_and_health_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SAMPLE_SECONDS", 0.01)
    registry, failing, looked = CollectorRegistry(), Failing(), Event()
    registry.register(failing)
    with serving(Metrics(port=0), registry, Unwell("", ""), looked.set) as address:
        failing.fails = True
        for _ in range(3):
            looked.clear()
            assert looked.wait(LIMIT_SECONDS)
        monkeypatch.setattr(server, "STALE_SECONDS", -1.0)
        with pytest.raises(RemoteDisconnected):
            asked(f"{address}/metrics")
        assert asked(f"{address}/healthz") == (200, "ok\n")
        failing.fails = False
        assert "answer 42.0\n" in asked(f"{address}/metrics")[1]


def test_it_looks_again_and_again() -> None:
    looked = Event()
    with serving(Metrics(port=0), CollectorRegistry(), Unwell("", ""), looked.set):
        assert looked.wait(LIMIT_SECONDS)
