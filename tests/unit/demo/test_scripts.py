"""What the demo makes of a script that ends before it should."""

import io
import signal
from collections.abc import Callable

import pytest

from unique_users.demo import scripts
from unique_users.demo.stop import DemoError, EarlyEnd, StoppedError
from unique_users.event_time.buckets import Calendar


class Ended:
    """A script that has ended; `meanwhile` happens as somebody asks for that."""

    returncode = 0

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self._meanwhile = meanwhile
        self.stdin, self.stdout, self.stderr = io.StringIO(), io.StringIO(), io.StringIO()

    def poll(self) -> int:
        self._meanwhile()
        return self.returncode


def attended(stop: EarlyEnd, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]) -> None:
    monkeypatch.setattr(scripts, "_in_own_group", lambda *_: Ended(meanwhile))
    running = scripts.Scripts("config.yaml", [], Calendar("UTC"), stop)
    running.start("producer")
    running.attend()


def test_a_script_that_ends_by_itself_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DemoError, match=r"producer\.py ended too early, with exit code 0"):
        attended(EarlyEnd(), monkeypatch, lambda: None)


def test_a_script_that_ends_because_of_a_stop_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop that comes while the scripts are looked after ends what feeds the producer, and with it the producer."""
    stop = EarlyEnd()
    with pytest.raises(StoppedError):
        attended(stop, monkeypatch, lambda: stop.request(signal.SIGINT, None))
