"""docs/tutorial.md, followed word for word: its files, its commands in their order, and what they print.

Only the two ports are others. Wall times, rates and process numbers may differ, and `…` stands for any lines.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from patience import until
from playwright.sync_api import Page, expect
from repository import ROOT

from unique_users.local_kafka.broker import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the tutorial is written for a POSIX shell"),
]

SECONDS = 90
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:<!-- (?P<note>[^>]*) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL)
VARIES = [
    (re.compile(r"\b20(?!24)\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "NOW"),
    (re.compile(r"[\d,.]+/s"), "N/s"),
    (re.compile(r"process \d+"), "process N"),
]


@dataclass
class Reader:
    """Somebody who follows the tutorial, in a folder and with a shell of their own."""

    folder: Path
    kafka: str
    page: str
    terminals: list[tuple[subprocess.Popen[bytes], Path]] = field(default_factory=list)

    def own(self, text: str) -> str:
        """What stands in the tutorial, with ports that nobody else uses."""
        return text.replace("localhost:19092", self.kafka).replace("127.0.0.1:8360", self.page)

    def save(self, name: str, text: str) -> None:
        port = self.page.rpartition(":")[2]
        (self.folder / name).write_text(
            self.own(text) + (f"dashboard: {{port: {port}}}\n" if name == "config.yaml" else "")
        )

    def open_terminal(self, command: str) -> Path:
        output = self.folder / f".terminal-{len(self.terminals)}"
        with output.open("wb") as out:
            process = subprocess.Popen(
                command, shell=True, executable="bash", cwd=self.folder, env=environment(), stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.terminals.append((process, output))
        return output

    def run(self, command: str) -> str:
        done = subprocess.run(
            command, shell=True, executable="bash", cwd=self.folder, env=environment(), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False, timeout=SECONDS,
        )  # fmt: skip
        return done.stdout

    def close_terminals(self) -> None:
        """Press Ctrl-C in each of them; all have to end, and without a traceback."""
        for process, output in reversed(self.terminals):
            os.killpg(process.pid, signal.SIGINT)
            process.wait(SECONDS)
            assert "Traceback" not in output.read_text()


def environment() -> dict[str, str]:
    """As after `. .venv/bin/activate`."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    folder = tmp_path / "my-stream"
    folder.mkdir()
    reader = Reader(folder, f"localhost:{free_port()}", f"127.0.0.1:{free_port()}")
    yield reader
    for process, _ in reader.terminals:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    if (folder / "config.yaml").exists():
        reader.run("unique-users broker stop")


def same(line: str) -> str:
    for pattern, instead in VARIES:
        line = pattern.sub(instead, line.rstrip())
    return line


def is_shown(expected: list[str], printed: str) -> bool:
    """Whether a command printed these lines in this order; others may stand only where `…` does."""
    pattern = "".join(r"(?:.*\n)*" if line == "…" else re.escape(same(line)) + r"\n" for line in expected)
    return re.fullmatch(pattern, "".join(f"{same(line)}\n" for line in printed.splitlines())) is not None


def sessions(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines that follow it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *lines = part.splitlines()
        yield command, lines


def test_the_tutorial_word_for_word(reader: Reader, opened: Callable[..., Page]) -> None:
    counter = Path()
    for block in BLOCK.finditer(TUTORIAL):
        note, text = block["note"] or "", reader.own(block["text"])
        if note.startswith("file: "):
            reader.save(note.removeprefix("file: "), block["text"])
        elif note == "the counter prints":
            until(lambda: is_shown(["…", *text.splitlines(), "…"], counter.read_text()), counter.read_text)  # noqa: B023
        elif block["kind"] == "console" and note == "until Ctrl-C":
            ((command, lines),) = sessions(text)
            output = reader.open_terminal(command)
            counter = output if command.endswith("counter") else counter
            until(lambda: is_shown([*lines, "…"], output.read_text()), output.read_text)  # noqa: B023
        elif block["kind"] == "console":
            if "broker stop" in text:
                watch(opened(f"http://{reader.page}/"))
                reader.close_terminals()
            for command, lines in sessions(text):
                if note == "once the counter has saved":
                    until(lambda: is_shown(lines, reader.run(command)), lambda: reader.run(command))  # noqa: B023
                    continue
                printed = reader.run(command)
                assert is_shown(lines, printed), f"$ {command}\n{printed}"


def watch(page: Page) -> None:
    """Look at the page while the stream runs."""
    expect(page.locator("#state-text")).to_contain_text("Live", timeout=SECONDS * 1000)


def test_what_is_printed_has_to_be_what_is_shown() -> None:
    assert is_shown(["2026-11-28T19:10:05Z  46/s", "…", "b 1"], "2027-01-01T00:00:00Z  3/s\nx\ny\nb 1\n")
    assert is_shown(["a", "…"], "a\n")
    assert not is_shown(["a"], "a\nb\n")
    assert not is_shown(["2024-05-20T10:14:00Z  4"], "2024-05-20T10:15:00Z  4\n")


def test_the_commands_are_found() -> None:
    commands = [command for block in BLOCK.finditer(TUTORIAL) for command, _ in sessions(block["text"])]
    wanted = ("broker start", "bucketer", "counter", "producer events.jsonl", "dashboard", "broker stop")
    assert [command for command in commands if command.startswith("unique-users ")] == commands[:-2] + commands[-1:]
    assert {f"unique-users {name}" for name in wanted} <= set(commands)
