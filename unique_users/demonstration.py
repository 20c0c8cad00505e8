"""What demo.py is made of. Everything that is started here is also stopped, whatever happens in between."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread
from types import FrameType, TracebackType
from typing import IO, Any, NamedTuple, Self

import psutil
from msgspec.structs import asdict

from unique_users.buckets import INTERVALS, Bucket, Calendar
from unique_users.clients import Admin, get_admin
from unique_users.config import Config
from unique_users.daemons import PidFile
from unique_users.errors import BrokerAwayError, BrokerError, UniqueUsersError, UsageError
from unique_users.estimates import Count, Estimate
from unique_users.frame_files import FrameFile
from unique_users.lifecycle import STOP_SIGNALS, say
from unique_users.local_kafka import LocalKafka, free_port, local_address
from unique_users.recounting import recount
from unique_users.report import BucketCount, Summary
from unique_users.sample import write_sample
from unique_users.schedule import Every

SCRIPTS_DIRECTORY = Path(__file__).resolve().parent.parent
LISTEN_SECONDS = 0.1  # between two looks at the children and at the stop request
STOP_SECONDS = 15  # what a script gets to end by itself
STUCK_SECONDS = 60  # of waiting for the last counts without any progress
SAY_SECONDS = 2

SETTINGS = ("counter.report_seconds=2", "counter.save_seconds=1")


if sys.platform == "win32":
    _GENTLE = signal.CTRL_BREAK_EVENT
else:
    _GENTLE = signal.SIGTERM


class DemoError(UniqueUsersError):
    """The demo did not get to its end: the message says where, the lines above it why."""


class Stop:
    """What Ctrl-C does to the demo: it ends at the next `check`, so that what was started is known and stopped."""

    def __init__(self) -> None:
        self._requested = False
        self._prompt = False

    def check(self) -> None:
        """Raise DemoError when a stop was requested."""
        if self._requested:
            raise DemoError("stopped before the end")

    @contextmanager
    def promptly(self) -> Iterator[None]:
        """Let a request end the work inside at once, for work that cleans up behind itself."""
        self.check()
        self._prompt = True
        try:
            yield
        finally:
            self._prompt = False

    def request(self, _number: int, _frame: FrameType | None) -> None:
        """Be a signal handler."""
        if not self._requested:
            with suppress(OSError):
                os.write(2, b"stopping what was started ...\n")
        self._requested = True
        if self._prompt:
            self._prompt = False
            self.check()


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Give a Stop that the first signal requests. Further ones change nothing: no forced end leaves a Kafka behind."""
    stop = Stop()
    numbers = list(STOP_SIGNALS)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup stays nohup
        numbers.append(signal.SIGHUP)
    former = {number: signal.signal(number, stop.request) for number in numbers}
    try:
        yield stop
    finally:
        # A signal may come between the start of a process and the note of it.
        for left_over in psutil.Process().children():
            left_over.kill()
        for number, handler in former.items():
            signal.signal(number, handler)


def stream_file(config: Config, stop: Stop) -> str:
    """The configured file; a sample is written to its path when there is none. Raises DemoError, UsageError."""
    path = Path(config.producer.file)
    if config.producer.file == "-":
        raise UsageError("producer.file: stdin cannot be read twice: name a file")
    if not path.exists():
        say(f"{path} does not exist: making a sample of 30,000 frames")
        try:
            with stop.promptly():
                write_sample(path)
        except OSError as error:
            message = f"producer.file: cannot write {str(path)!r}: {error.strerror or error}: name another file"
            raise DemoError(message) from None
    return str(path)


@contextmanager
def kafka_place(config: Config, stop: Stop) -> Iterator[Sequence[str]]:
    """The settings of a place where nothing else is: own topics on a cluster, or a broker for one loopback address."""
    # Who names several addresses means the cluster there, be it a local one.
    here = len(config.bootstrap_servers) == 1 and local_address(config.bootstrap_servers)
    with (
        TemporaryDirectory(prefix="unique-users-demo-") as state,
        _own_kafka(config, stop) if here else _own_topics(config) as settings,
    ):
        yield [*settings, f"state.directory={state}", *SETTINGS]


@contextmanager
def _own_kafka(config: Config, stop: Stop) -> Iterator[Sequence[str]]:
    kafka = LocalKafka(config.broker.version, _fresh_directory(config), free_port(), host="127.0.0.1")
    say(f"starting Kafka {kafka.version} at {kafka.bootstrap_servers}, its data and logs are in {kafka.data}")
    try:
        with stop.promptly():
            kafka.start()
        yield [
            f"kafka.bootstrap_servers={kafka.bootstrap_servers}",
            *(f"topics.{topic}.replication=1" for topic in asdict(config.topics)),
        ]
    finally:
        kafka.stop()


def _fresh_directory(config: Config) -> Path:
    directory = Path(config.broker.data) / "demo"
    owner = PidFile.read(directory / "kafka.pid")
    if owner and owner.process(str(directory.absolute() / "kafka.properties")):
        message = (
            f"the Kafka of another demo runs in {str(directory)!r} (process {owner.pid}): wait for its end, or, if it"
            f" was left behind, `python broker.py stop --set broker.data={directory}`"
        )
        raise DemoError(message)
    try:
        directory.parent.mkdir(exist_ok=True)
        if directory.exists():
            shutil.rmtree(directory)
    except OSError as error:
        message = f"broker.data: cannot use {str(error.filename)!r}: {error.strerror}: name another with --set"
        raise DemoError(message) from None
    return directory


@contextmanager
def _own_topics(config: Config) -> Iterator[Sequence[str]]:
    prefix = f"demo-{secrets.token_hex(4)}"
    names = {topic: f"{prefix}-{topic}" for topic in asdict(config.topics)}
    say(f"using {', '.join(config.bootstrap_servers)} with the topics {prefix}-*, which are deleted at the end")
    try:
        yield [
            *(f"topics.{topic}.name={name}" for topic, name in names.items()),
            *(f"{group}.group={prefix}-{group}" for group in ("bucketer", "counter")),
        ]
    finally:
        try:
            _delete_topics(config, list(names.values()))
        except BrokerError as error:
            say(f"the topics {prefix}-* could not be deleted: {error}")


def _delete_topics(config: Config, names: Sequence[str]) -> None:
    admin = get_admin(config)
    try:
        admin.delete(names)
    finally:
        admin.close()


class Word(NamedTuple):
    """A line that a script printed."""

    script: str
    text: str
    result: bool  # on stdout


class Scripts:
    """The project's scripts as child processes with the same settings. As a context manager it ends them all.

    Their words are printed with their names before them, the counter's counts as they are. Ctrl-C reaches none of them.
    """

    def __init__(self, config_file: str, overrides: Sequence[str], calendar: Calendar, stop: Stop) -> None:
        self._options = ["--config", config_file, *(f"--set={override}" for override in overrides)]
        self._calendar = calendar
        self._stop = stop
        self._words: SimpleQueue[Word] = SimpleQueue()
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._listeners: list[Thread] = []
        self.counts: dict[Bucket, Count] = {}  # the last reported ones

    def start(self, script: str, *arguments: str) -> None:
        """Start a script that runs until `finish`."""
        command = [sys.executable, str(SCRIPTS_DIRECTORY / f"{script}.py"), *self._options, *arguments]
        process = self._running[script] = _in_own_group(command)
        assert process.stdout
        assert process.stderr
        for pipe in process.stdout, process.stderr:
            listener = Thread(target=self._listen, args=(script, pipe, pipe is process.stdout), daemon=True)
            listener.start()
            self._listeners.append(listener)

    def run(self, script: str, *arguments: str) -> None:
        """Run a script to its end, while the others do their work. Raises DemoError when it fails."""
        self.start(script, *arguments)
        while self._running[script].poll() is None:
            self.attend(may_end=script)
        if self._running[script].returncode:
            self._fail(script)
        del self._running[script]

    def attend(self, may_end: str = "") -> None:
        """Print what was said, for a moment. Raises DemoError when a script ended or a stop was requested."""
        self._stop.check()
        self._print_words(LISTEN_SECONDS)
        for script, process in self._running.items():
            if process.poll() is not None and script != may_end:
                self._fail(script)

    def finish(self) -> None:
        """Ask the running scripts to end and hear their last words. Raises DemoError when one fails at that."""
        self._end()
        self._print_last_words()
        for script, process in self._running.items():
            if process.returncode:
                self._fail(script)
        self._running.clear()

    def __enter__(self) -> Self:
        """Nothing runs yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what still runs."""
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
            print(self._report_line(word.text), flush=True)
        else:
            text = word.text.removeprefix(f"{word.script}: ").removesuffix("; Ctrl-C stops")
            say(f"{word.script}: {text}")

    def _report_line(self, line: str) -> str:
        """Take a JSON line of the counter's report and return it as text."""
        fields = json.loads(line)
        if "report" in fields:
            fields["at"] = _epoch(fields["report"])
            return Summary(**{name: fields[name] for name in Summary._fields}).line("text")
        bucket, users = Bucket(fields["interval"], _epoch(fields["start"])), fields["unique_users"]
        count = Estimate(users, fields["lower"], fields["upper"]) if "lower" in fields else users
        self.counts[bucket] = count
        return BucketCount(bucket.start, count, fields["new"], bucket.interval).line("text", self._calendar)


def _in_own_group(command: Sequence[str]) -> subprocess.Popen[str]:
    """Run `command` out of reach of the terminal's Ctrl-C, its output as UTF-8 in pipes."""
    group: dict[str, Any] = {"process_group": 0}
    if sys.platform == "win32":
        group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return subprocess.Popen(  # noqa: S603 - the project's own scripts
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        encoding="utf-8",
        errors="replace",
        **group,
    )


def _epoch(time_text: str) -> int:
    return int(datetime.fromisoformat(time_text).timestamp())


class Left(NamedTuple):
    """The records that wait for the bucketer and for the counter."""

    to_rekey: int
    to_count: int


def wait_until_counted(config: Config, scripts: Scripts) -> None:
    """Wait until bucketer and counter have done all that is there. Raises DemoError when they get nowhere."""
    left = None
    moved = time.monotonic()
    say_due = Every(SAY_SECONDS, time.monotonic)
    admin = get_admin(config)
    try:
        while (now_left := _left(admin, config) or left) != (0, 0):
            if now_left != left:
                left, moved = now_left, time.monotonic()
            elif time.monotonic() - moved > STUCK_SECONDS:
                raise DemoError(f"nothing was counted for {STUCK_SECONDS} s: {_words(left)}")
            if say_due.due():
                say(f"waiting: {_words(left)}")
            scripts.attend()
    finally:
        admin.close()


def _left(admin: Admin, config: Config) -> Left | None:
    """What is not committed yet; None while the broker does not answer."""
    topics = config.topics
    try:
        # In this order: when the bucketer has nothing left, `bucketed` has its final length.
        to_rekey = admin.lag(config.bucketer.group, topics.feed.name)
        return Left(to_rekey, admin.lag(config.counter.group, topics.bucketed.name))
    except BrokerAwayError:
        return None


def _words(left: Left | None) -> str:
    if left is None:
        return "the broker does not answer"
    return f"{left.to_rekey:,} frames are to be re-keyed, {left.to_count:,} messages to be counted"


def recounted(file: str, config: Config, stop: Stop) -> dict[Bucket, int]:
    """The true count of each bucket that is counted exactly, by plain sets. Raises InputError, DemoError."""
    with stop.promptly(), FrameFile(file) as lines:
        result = recount((line.value for line in lines), config, int(time.time() * 1000))
    say(f"recount: {result.counts}")
    buckets = result.buckets(exact_intervals(config), Calendar(config.counter.timezone))
    return {Bucket(bucket.interval, bucket.start): bucket.unique_users for bucket in buckets}


def exact_intervals(config: Config) -> list[str]:
    """The intervals that can be compared with a recount. Raises UsageError when there is none."""
    counter = config.counter
    exact: list[str] = [name for name in counter.intervals if name not in counter.estimates]
    if not exact:
        raise UsageError("counter.estimates: the demo compares exact counts: let one interval be exact")
    return exact


def compare(counted: Mapping[Bucket, Count], true: Mapping[Bucket, int], calendar: Calendar) -> bool:
    """Print both counts of every bucket that is not estimated; return whether they are all the same."""
    exact = {bucket: count for bucket, count in counted.items() if not isinstance(count, Estimate)}
    buckets = exact.keys() | true.keys()
    texts = {bucket: calendar.text(bucket) for bucket in buckets}
    width = max(map(len, texts.values()), default=0)
    for interval in sorted({bucket.interval for bucket in buckets}, key=INTERVALS.index):
        print(f"{interval:<{width}}  {'counted':>9}  {'recounted':>9}")
        for bucket in sorted(bucket for bucket in buckets if bucket.interval == interval):
            here, there = exact.get(bucket, 0), true.get(bucket, 0)
            print(f"{texts[bucket]:<{width}}  {here:>9,}  {there:>9,}{'' if here == there else '  differs'}")
    return exact == true
