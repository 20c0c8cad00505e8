"""The real scripts under a service manager that the test plays: what they tell it, and when they fall silent."""

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import new_broker
from patience import LIMIT_SECONDS, until
from running import Running

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no service manager here asks for messages")
WATCHDOG_SECONDS = 2.0


class Manager:
    """Listens as systemd does."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.said: list[str] = []

    def hears(self, line: str, times: int = 1) -> None:
        """Wait until a line was said so often from now on."""
        wanted = self.said.count(line) + times

        def heard() -> bool:
            self._listen(1)
            return self.said.count(line) >= wanted

        until(heard, lambda: f"{times} times {line}, not only {self.said[-20:]}", every=0)

    def hears_for(self, seconds: float) -> list[str]:
        """What is said in so many seconds."""
        begin, end = len(self.said), time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._listen(left)
        return self.said[begin:]

    def forget(self) -> None:
        """Read what was said before now."""
        self._listen(0.05)
        self.said.clear()

    def close(self) -> None:
        self._socket.close()

    def _listen(self, seconds: float) -> None:
        self._socket.settimeout(seconds)
        try:
            while True:
                self.said += self._socket.recv(10_000).decode().splitlines()
                self._socket.settimeout(0.01)
        except TimeoutError:
            pass


@pytest.fixture
def manager(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    path = tmp_path_factory.mktemp("n") / "s"
    made = Manager(path)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    monkeypatch.setenv("WATCHDOG_USEC", f"{WATCHDOG_SECONDS * 1e6:.0f}")
    yield made
    made.close()


@pytest.mark.parametrize(("script", "client"), [("bucketer", "kafka-python"), ("counter", "librdkafka")])
def test_a_script_is_alive_until_it_is_frozen(script: str, client: str, running: Running, manager: Manager) -> None:
    running.settings = [f"client={client}"]
    process = running.start(script)
    manager.hears("READY=1")
    assert "STATUS=reading" in manager.said
    manager.hears("WATCHDOG=1", 3)
    process.send_signal(signal.SIGSTOP)
    manager.forget()
    assert manager.hears_for(2 * WATCHDOG_SECONDS) == []
    process.send_signal(signal.SIGCONT)
    manager.hears("WATCHDOG=1", 2)
    process.send_signal(signal.SIGTERM)
    manager.hears("STOPPING=1")
    assert process.wait(LIMIT_SECONDS) == 0
    assert manager.said.count("READY=1") <= 1


@pytest.mark.slow
@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_without_a_broker_a_script_is_alive_at_its_start_and_later(
    client: str, tmp_path: Path, manager: Manager, tmp_path_factory: pytest.TempPathFactory
) -> None:
    broker = new_broker(tmp_path_factory.mktemp("kafka") / "data")
    scripts = Running(broker.bootstrap_servers, tmp_path, [f"client={client}"])
    try:
        process = scripts.start("counter")
        manager.hears("STATUS=waiting for the broker")
        manager.hears("EXTEND_TIMEOUT_USEC=60000000", 2)
        assert "READY=1" not in manager.said
        broker.start()
        manager.hears("READY=1")
        broker.kill()
        manager.forget()
        manager.hears("WATCHDOG=1", 5)
        assert process.poll() is None
    finally:
        scripts.end_all()
        broker.stop()


def test_the_page_is_ready_when_it_listens(tmp_path: Path, manager: Manager) -> None:
    scripts = Running("localhost:1", tmp_path, ["dashboard.port=0"])
    process = scripts.start("dashboard")
    manager.hears("READY=1")
    manager.hears("WATCHDOG=1", 2)
    process.send_signal(signal.SIGTERM)
    manager.hears("STOPPING=1")
    assert process.wait(LIMIT_SECONDS) == 0
