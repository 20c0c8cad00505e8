"""The project's scripts as children of the demo: started, listened to, and stopped whatever happens."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from unique_users.aggregation.counts import Count
from unique_users.demo.stop import DemoError, EarlyEnd
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.reports.bucket_count import BucketCount
from unique_users.reports.report import CounterReport

_log = logging.getLogger(__name__)

LISTEN_SECONDS = 0.1  # between two checks of the children and of the stop request
STOP_SECONDS = 15  # how long a script has to exit by itself


if sys.platform == "win32":
    _GENTLE = signal.CTRL_BREAK_EVENT
else:
    _GENTLE = signal.SIGTERM


class Word(NamedTuple):
    """A line that a script printed."""

    script: str
    text: str
    result: bool  # on stdout


class Scripts:
    """The project's scripts as child processes with the same settings. As a context manager it ends them all.

    What they log is printed with their names as prefixes, and the counter's reports without. The other scripts' reports
    are left out, because the counter's hold their sums. Ctrl-C reaches none of them.
    """

    def __init__(
        self,
        config_file: str,
        overrides: Sequence[str],
        calendar: Calendar,
        stop: EarlyEnd,
        *,
        prints_counts: bool = True,
    ) -> None:
        self._options = ["--config", config_file, *(f"--set={override}" for override in overrides)]
        self._options.append("--set=log.format=json")
        self._calendar = calendar
        self._stop = stop
        self._prints_counts = prints_counts
        self._words: SimpleQueue[Word] = SimpleQueue()
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._listeners: list[Thread] = []
        self.counts: dict[Bucket, Count] = {}  # as last reported

    def start(self, script: str, *arguments: str, stdin: int = subprocess.DEVNULL) -> IO[str] | None:
        """Start a script that runs until `finish`. Returns its stdin if that is a pipe."""
        command = [sys.executable, "-m", "unique_users", script, *self._options, *arguments]
        process = self._running[script] = _in_own_group(command, stdin)
        assert process.stdout
        assert process.stderr
        for pipe in process.stdout, process.stderr:
            listener = Thread(target=self._listen, args=(script, pipe, pipe is process.stdout), daemon=True)
            listener.start()
            self._listeners.append(listener)
        return process.stdin

    def start_dashboard(self) -> None:
        """Start the page at any free port, if what it needs is installed; it says where it is."""
        if find_spec("starlette") and find_spec("uvicorn") and find_spec("websockets"):
            self.start("dashboard", "--set=dashboard.port=0")
        else:
            _log.info("no live page: it needs pip install 'unique-users[dashboard]'")

    def run(self, script: str, *arguments: str) -> None:
        """Run a script to its end while the others work. Raises DemoError if it fails."""
        self.start(script, *arguments)
        while self._running[script].poll() is None:
            self.attend(may_end=script)
        if self._running[script].returncode:
            self._fail(script)
        del self._running[script]

    def attend(self, may_end: str = "") -> None:
        """Print what was said, for a moment. Raises StoppedError at a stop, DemoError if a script has ended."""
        self._stop.check()
        self._print_words(LISTEN_SECONDS)
        for script, process in self._running.items():
            if process.poll() is not None and script != may_end:
                self._stop.check()  # a script may have ended for that: the producer does when nothing feeds it any more
                self._fail(script)

    def finish(self) -> None:
        """Ask the running scripts to exit and print their last output. Raises DemoError if one fails."""
        self._end()
        self._print_last_words()
        for script, process in self._running.items():
            if process.returncode:
                self._fail(script)
        self._running.clear()

    def __enter__(self) -> Self:
        """Nothing is running yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what is still running."""
        self._end()

    def _end(self) -> None:
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(_GENTLE)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._running.values():
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _fail(self, script: str) -> None:
        self._print_last_words()
        raise DemoError(f"{script}.py ended too early, with exit code {self._running[script].returncode}")

    def _listen(self, script: str, pipe: IO[str], result: bool) -> None:  # noqa: FBT001 - see Word
        for line in pipe:
            self._words.put(Word(script, line.rstrip("\n"), result))

    def _print_words(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with suppress(Empty):
            while True:
                self._print(self._words.get(timeout=max(0, deadline - time.monotonic())))

    def _print_last_words(self) -> None:
        for listener in self._listeners:
            listener.join(LISTEN_SECONDS)
        self._print_words(0)

    def _print(self, word: Word) -> None:
        if word.result and word.script == "counter":
            line = self._report_line(word.text)
            if self._prints_counts or "  report  " in line:
                print(line, flush=True)
        elif not word.result:
            text = _message(word.text).removeprefix(f"{word.script}: ").removesuffix("; Ctrl-C stops")
            _log.info(f"{word.script}: {text}")

    def _report_line(self, line: str) -> str:
        """Parse a JSON line of the counter's report and return it as text."""
        fields = json.loads(line)
        if "report" in fields:
            return "\n".join(CounterReport.parsed(fields).lines("text"))
        count = BucketCount.parsed(fields)
        self.counts[count.bucket] = count.total
        return count.line("text", self._calendar)


def _message(line: str) -> str:
    """The message of a line that a script logged; any other line, such as a report, is returned unchanged."""
    try:
        fields = json.loads(line)
        return f"{'error: ' if fields['level'] == 'error' else ''}{fields['message']}"
    except (ValueError, TypeError, KeyError):
        return line


def _in_own_group(command: Sequence[str], stdin: int) -> subprocess.Popen[str]:
    """Run `command` out of reach of the terminal's Ctrl-C, with its output as UTF-8 in pipes."""
    group: dict[str, Any] = {"process_group": 0}
    if sys.platform == "win32":
        group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return subprocess.Popen(  # noqa: S603 - the project's own scripts
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        encoding="utf-8",
        errors="replace",
        **group,
    )
