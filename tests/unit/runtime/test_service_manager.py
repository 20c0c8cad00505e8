"""What a service manager is told, and when; real processes under one are in tests/integration."""

import os
import socket
import sys
from pathlib import Path

import pytest

from unique_users.runtime.heartbeat import Pulse, alive
from unique_users.runtime.service_manager import Messages, supervised, watchdog_seconds_in
from unique_users.runtime.signals import Stop

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no service manager here asks for messages")
SLICE = 0.25


class Told:
    """A process that is asked every quarter of a second what there is to say; its manager's watchdog is 8 s."""

    def __init__(self, watchdog_seconds: float | None = 8) -> None:
        self.pulse = Pulse()
        self.not_ready = ""
        self.stopping = False
        self._messages = Messages(self.pulse, watchdog_seconds)
        self._now = 100.0

    def passes(self, seconds: float, *, beats: int = 1) -> list[str]:
        """Let time go by, with so many beats in each slice; return the lines that were said."""
        said = []
        for _ in range(round(seconds / SLICE)):
            self._now += SLICE
            self.pulse.beats += beats
            said += self._messages.due(self._now, self.not_ready, stopping=self.stopping).splitlines()
        return said


def test_a_process_is_alive_twice_in_the_time_of_the_watchdog() -> None:
    process = Told()
    assert process.passes(SLICE) == ["READY=1", "STATUS=reading", "WATCHDOG=1"]
    assert process.passes(8) == ["WATCHDOG=1", "WATCHDOG=1"]


def test_a_loop_that_stands_still_is_not_alive() -> None:
    process = Told()
    process.passes(SLICE)
    assert process.passes(80, beats=0) == []
    assert process.passes(SLICE) == ["WATCHDOG=1"]


def test_a_loop_that_is_busy_with_a_large_state_is_alive() -> None:
    process = Told()
    process.passes(SLICE)
    process.pulse.busy = 1
    assert process.passes(8, beats=0) == ["WATCHDOG=1", "WATCHDOG=1"]


def test_while_the_broker_is_away_the_start_may_take_longer_as_long_as_the_loop_moves() -> None:
    process = Told()
    process.not_ready = "waiting for the broker"
    assert process.passes(SLICE) == ["STATUS=waiting for the broker", "EXTEND_TIMEOUT_USEC=60000000"]
    assert process.passes(10) == ["EXTEND_TIMEOUT_USEC=60000000"] * 2
    assert process.passes(60, beats=0) == []
    process.not_ready = ""
    assert process.passes(SLICE)[:2] == ["READY=1", "STATUS=reading"]


def test_it_is_ready_once_and_later_only_its_status_says_that_it_has_nothing_to_read() -> None:
    process = Told(watchdog_seconds=None)
    assert process.passes(60) == ["READY=1", "STATUS=reading"]
    process.not_ready = "no partition is assigned"
    assert process.passes(60) == ["STATUS=no partition is assigned"]
    process.not_ready = ""
    assert process.passes(60) == ["STATUS=reading"]


def test_a_stop_is_said_once_and_the_loop_is_alive_until_it_ends() -> None:
    process = Told()
    process.passes(8)
    process.stopping = True
    process.not_ready = "no partition is assigned"
    assert process.passes(8) == ["STOPPING=1", "WATCHDOG=1", "WATCHDOG=1"]


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "90000000"}, 90.0),
        ({"WATCHDOG_USEC": "90000000", "WATCHDOG_PID": str(os.getpid())}, 90.0),
        ({"WATCHDOG_USEC": "90000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_as_the_manager_says(environment: dict[str, str], seconds: float | None) -> None:
    assert watchdog_seconds_in(environment) == seconds


ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has addresses without a file")


@pytest.mark.parametrize("name", ["path", pytest.param("abstract", marks=ON_LINUX)])
def test_a_manager_hears_it_wherever_it_listens(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    address = str(tmp_path_factory.mktemp("n") / "s") if name == "path" else f"@unique-users-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0", 1))
        manager.settimeout(30)
        with supervised(Stop(), {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "8000000"}) as process:
            assert manager.recv(1_000).startswith(b"STATUS=waiting for the broker")
            alive()
            process.ready()
            assert b"READY=1" in manager.recv(1_000)
        assert b"STOPPING=1" in manager.recv(1_000)


def test_without_a_manager_nothing_happens() -> None:
    with supervised(Stop(), {}) as process:
        process.ready()


def test_a_manager_that_is_gone_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with supervised(Stop(), {"NOTIFY_SOCKET": str(tmp_path / "nobody")}):
        pass
    assert caplog.text.count("cannot tell the service manager") == 1
