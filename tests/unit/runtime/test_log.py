"""How lines of the log look in each format."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from unique_users.runtime.log import LogFormat, log_to_stderr

LOGGER = logging.getLogger("unique_users.counter.loop")


@pytest.fixture(autouse=True)
def plain_again() -> Iterator[None]:
    yield
    log_to_stderr()


def said(capsys: pytest.CaptureFixture[str], log_format: LogFormat, level: int) -> str:
    log_to_stderr(log_format)
    LOGGER.log(level, "hello")
    return capsys.readouterr().err


def test_a_command_that_answers_and_ends_says_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "plain", logging.WARNING) == "hello\n"
    assert said(capsys, "plain", logging.ERROR) == "error: hello\n"


def test_a_script_says_time_level_and_logger_and_ends_with_a_plain_error(capsys: pytest.CaptureFixture[str]) -> None:
    time, rest = said(capsys, "text", logging.WARNING).split(" ", 1)
    assert (time[10], time[-1], rest) == ("T", "Z", "WARNING counter.loop: hello\n")
    assert said(capsys, "text", logging.ERROR) == "error: hello\n"


@pytest.mark.parametrize(("level", "name"), [(logging.INFO, "info"), (logging.ERROR, "error")])
def test_json_lines_hold_the_same(capsys: pytest.CaptureFixture[str], level: int, name: str) -> None:
    fields = json.loads(said(capsys, "json", level))
    assert fields.pop("time").endswith("Z")
    assert fields == {"level": name, "logger": "counter.loop", "message": "hello"}


def test_a_stderr_that_is_closed_is_not_replaced_by_stdout(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    LOGGER.warning("hello")
    assert capsys.readouterr().out == ""
