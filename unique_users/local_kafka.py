"""A local Kafka for development and tests: one broker on the loopback address, kept in one directory.

The directory `DATA` holds `kafka/` (and `zookeeper/` for 2.4), the settings in effect (`kafka.properties`),
`logs/`, the version it belongs to, and while they run `kafka.pid` and `zookeeper.pid`. The processes outlive who
started them.
"""

import base64
import json
import os
import re
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from unique_users.daemons import PidFile, reap, reason, spawn
from unique_users.errors import LocalKafkaError, UsageError
from unique_users.kafka_jars import CONFIG_DIRECTORY, fetch_jars, java_command, java_environment
from unique_users.lifecycle import say

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
START_SECONDS = 60
STOP_SECONDS = 30
POLL_SECONDS = 0.05
ANSWER_SECONDS = 2
LOG_BYTES_MAX = 16 * 1024 * 1024
ZOOKEEPER_HEAP = "256m"
MAIN_CLASSES = {"kafka": "kafka.Kafka", "zookeeper": "org.apache.zookeeper.server.quorum.QuorumPeerMain"}


@dataclass(frozen=True)
class Status:
    """Whether the broker can be used, and one line for a person."""

    answers: bool
    text: str


def local_address(bootstrap_servers: Sequence[str]) -> tuple[str, int] | None:
    """Return host and port if `bootstrap_servers` is one loopback address, None for any other cluster.

    Raises UsageError for a port that cannot be.
    """
    if len(bootstrap_servers) != 1:
        return None
    host, _, port = bootstrap_servers[0].rpartition(":")
    if host.lower() not in LOOPBACK:
        return None
    if not 1 <= int(port) <= 65_535:  # noqa: PLR2004
        raise UsageError(f"kafka.bootstrap_servers: expected a port from 1 to 65535, got {bootstrap_servers[0]!r}")
    return host.lower(), int(port)


@dataclass
class LocalKafka:
    """One broker of Kafka `version` with its data below `data`, reached at `host:port`.

    `zookeeper_port` is for 2.4.0 (None: any free one), `heap` is the broker's, in Java's notation, `properties`
    go over those of `kafka-config/`. As a context manager it starts on entry and stops on exit.
    """

    version: str
    data: Path
    port: int
    zookeeper_port: int | None = None
    host: str = "localhost"
    heap: str = "1g"
    properties: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Keep the place when the working directory changes."""
        self.data = self.data.absolute()

    def __enter__(self) -> Self:
        """Start the broker."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the broker."""
        self.stop()

    @property
    def bootstrap_servers(self) -> str:
        """The address for `kafka.bootstrap_servers`."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id, None when it does not run."""
        process = self._process("kafka")
        return None if process is None else process.pid

    def start(self) -> bool:
        """Start what does not run yet and wait until the broker takes requests; return whether it had to start.

        1. fetch and check the jars
        2. check the data directory and its version, claim it with the pid file
        3. check the port, write the settings, format new storage
        4. start ZooKeeper (2.4 only), then Kafka, and wait for its answer
        A start that fails leaves nothing running. Raises LocalKafkaError.
        """
        jars = fetch_jars(self.version)
        with self._explained():
            self._check_data()
            if self._runs_already():
                return False
            self._claim()
            try:
                self._start_processes(jars)
            except BaseException:
                for name in MAIN_CLASSES:
                    self._end(name, by_force=True)
                raise
        return True

    def stop(self) -> bool:
        """End the broker, then its ZooKeeper, by force after 30 s each; return whether one ran.

        Raises LocalKafkaError for processes of another user or a start that is under way.
        """
        self._refuse_while_starting()
        with self._explained():
            ended = [self._end(name, by_force=False) for name in MAIN_CLASSES]
        return any(ended)

    def kill(self) -> None:
        """End everything at once, as `kill -9` does. The pid files stay, as they do after a crash."""
        self._refuse_while_starting()
        for name in MAIN_CLASSES:
            if (process := self._process(name)) is not None:
                process.kill()
                process.wait(STOP_SECONDS)
                reap(process.pid, STOP_SECONDS)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the system refuses into a user error."""
        try:
            yield
        except OSError as error:
            raise LocalKafkaError(
                f"broker.data: cannot use {str(error.filename or self.data)!r}: {reason(error)}: give it space"
                " and rights, make its parent or mount its disk, or name another directory"
            ) from None
        except psutil.Error as error:
            raise LocalKafkaError(
                f"Kafka's process in {str(self.data)!r} cannot be ended: {error}: is it another user's?"
            ) from None

    def status(self) -> Status:
        """Look at the processes and ask the broker; changes nothing."""
        owner = PidFile.read(self._pid_path("kafka"))
        log = self._shown(self._log_path("kafka"))
        if owner is None:
            taken = f", another program answers at {self.bootstrap_servers}" if self._port_taken() else ""
            return Status(answers=False, text=f"Kafka is not running{taken} (data in {self._shown(self.data)})")
        if self._process("kafka") is None:
            gone = f"its process {owner.pid} was killed or crashed"
            return Status(answers=False, text=f"Kafka is not running: {gone}, see {log}")
        if owner.starting:
            return Status(answers=False, text=f"Kafka is being started by process {owner.pid}")
        host, _, port = owner.address.rpartition(":")
        if not broker_answers(host, int(port)):
            text = f"Kafka's process {owner.pid} runs but does not answer at {owner.address}: see {log}"
            return Status(answers=False, text=text)
        text = f"Kafka {self._data_version()} runs at {owner.address} (process {owner.pid}, data in"
        return Status(answers=True, text=f"{text} {self._shown(self.data)})")

    # 1. The data directory.

    def _check_data(self) -> None:
        if "," in str(self.data):
            raise UsageError(f"broker.data: Kafka cannot use a directory with a comma in its path: {str(self.data)!r}")
        # Never its parents: a disk that is not mounted must not become a directory.
        self.data.mkdir(exist_ok=True)
        self._log_path("kafka").parent.mkdir(exist_ok=True)
        found = self._data_version()
        if found is None:
            self._version_path.write_text(f"{self.version}\n", encoding="utf-8")
        elif found != self.version:
            raise LocalKafkaError(
                f"broker.data: {str(self.data)!r} holds data of Kafka {found}, which {self.version} cannot use:"
                f" start with --kafka-version {found}, or name another directory with --set broker.data=DIRECTORY"
            )

    @property
    def _version_path(self) -> Path:
        return self.data / "kafka-version"

    def _data_version(self) -> str | None:
        try:
            return self._version_path.read_text(encoding="utf-8").strip() or None
        except (FileNotFoundError, NotADirectoryError):
            return None

    # 2. Who runs.

    def _runs_already(self) -> bool:
        """Tell whether our broker runs and answers; wait for one that another start began."""
        self._refuse_while_starting()
        owner = PidFile.read(self._pid_path("kafka"))
        if owner is None:
            return False
        if self._process("kafka") is None:
            self._remove_stale("kafka", owner)
            return False
        if owner.address != self.bootstrap_servers:
            raise LocalKafkaError(
                f"Kafka in {str(self.data)!r} runs at {owner.address}, not at {self.bootstrap_servers}: stop it"
                " first, or mend kafka.bootstrap_servers"
            )
        self._wait_for_answer(time.monotonic() + START_SECONDS, 0)
        return True

    def _refuse_while_starting(self) -> None:
        owner = PidFile.read(self._pid_path("kafka"))
        if owner is not None and owner.starting and self._process("kafka") is not None:
            raise LocalKafkaError(f"Kafka in {str(self.data)!r} is being started by process {owner.pid}: wait for it")

    def _remove_stale(self, name: str, owner: PidFile) -> None:
        path = self._pid_path(name)
        say(f"{self._shown(path)}: removed, its process {owner.pid} was killed or crashed")
        path.unlink(missing_ok=True)

    def _claim(self) -> None:
        """Own the data directory from here on, so that a second start at the same moment is refused."""
        try:
            self._own(os.getpid(), starting=True).write(self._pid_path("kafka"), new=True)
        except FileExistsError:
            raise LocalKafkaError(
                f"Kafka in {str(self.data)!r} is being started by another process: wait for it"
            ) from None

    def _own(self, pid: int, *, starting: bool = False) -> PidFile:
        return PidFile(pid, psutil.Process(pid).create_time(), self.bootstrap_servers, starting)

    def _process(self, name: str) -> psutil.Process | None:
        owner = PidFile.read(self._pid_path(name))
        return None if owner is None else owner.process(str(self._settings_path(name)))

    def _end(self, name: str, *, by_force: bool) -> bool:
        if (owner := PidFile.read(self._pid_path(name))) is None:
            return False
        process = self._process(name)
        if process is not None and process.pid != os.getpid():
            (process.kill if by_force else process.terminate)()
            try:
                process.wait(STOP_SECONDS)
            except psutil.TimeoutExpired:
                say(f"{name} did not stop within {STOP_SECONDS} s: killed")
                process.kill()
                process.wait(STOP_SECONDS)
        reap(owner.pid, STOP_SECONDS)
        self._pid_path(name).unlink(missing_ok=True)
        return process is not None

    # 3. Before the start.

    def _check_port(self) -> None:
        if self._port_taken():
            raise LocalKafkaError(
                f"port {self.port} is taken by another program: stop that one, or choose another port in"
                " kafka.bootstrap_servers"
            )

    def _port_taken(self) -> bool:
        return _listens(self.host, self.port)

    def _write_settings(self, name: str, base: str, settings: Mapping[str, str]) -> Path:
        path = self._settings_path(name)
        lines = [f"{key}={_escaped(value)}" for key, value in settings.items()]
        text = (CONFIG_DIRECTORY / base).read_text(encoding="utf-8")
        path.write_text("\n".join([text, "# Set at the start by broker.py.", *lines, ""]), encoding="utf-8")
        return path

    def _format(self, jars: Sequence[Path]) -> None:
        """Give new storage its identity; Kafka does not start without one."""
        if (self.data / "kafka" / "meta.properties").exists():
            return
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        settings = str(self._settings_path("kafka"))
        arguments = ["format", "--ignore-formatted", f"--cluster-id={cluster}", "-c", settings]
        command = java_command(jars, "kafka.tools.StorageTool", arguments, self.heap, quick=True)
        try:
            done = subprocess.run(  # noqa: S603 - our own command, no shell
                command, capture_output=True, check=False, env=java_environment(), timeout=START_SECONDS
            )
            failure = _last_line(done.stderr or done.stdout) if done.returncode else None
        except subprocess.TimeoutExpired:
            failure = f"not done after {START_SECONDS} s"
        if failure is not None:
            raise LocalKafkaError(f"cannot format {str(self.data)!r}: {failure}")

    # 4. The processes.

    def _start_processes(self, jars: Sequence[Path]) -> None:
        self._check_port()
        if self.version.startswith("2."):
            self._start_with_zookeeper(jars)
        else:
            self._start_kraft(jars)

    def _start_kraft(self, jars: Sequence[Path]) -> None:
        controller = f"localhost:{free_port()}"
        settings = {
            "listeners": f"PLAINTEXT://{self.bootstrap_servers},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers}",
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": (self.data / "kafka").as_posix(),
        }
        self._write_settings("kafka", "kraft.properties", {**settings, **self.properties})
        self._format(jars)
        self._start_kafka(jars, time.monotonic() + START_SECONDS)

    def _start_with_zookeeper(self, jars: Sequence[Path]) -> None:
        deadline = time.monotonic() + START_SECONDS
        port = self._start_zookeeper(jars, deadline)
        settings = {
            "listeners": f"PLAINTEXT://{self.bootstrap_servers}",
            "zookeeper.connect": f"localhost:{port}",
            "log.dirs": (self.data / "kafka").as_posix(),
        }
        self._write_settings("kafka", "server.properties", {**settings, **self.properties})
        self._start_kafka(jars, deadline)

    def _start_zookeeper(self, jars: Sequence[Path], deadline: float) -> int:
        """Start ZooKeeper unless it runs, wait until it listens and return its port."""
        owner = PidFile.read(self._pid_path("zookeeper"))
        if owner is not None and self._process("zookeeper") is not None:
            return int(owner.address.rpartition(":")[2])
        if owner is not None:
            self._remove_stale("zookeeper", owner)
        port = self.zookeeper_port or free_port()
        if _listens("localhost", port):
            raise LocalKafkaError(f"port {port}, meant for ZooKeeper, is taken by another program: stop that one")
        data = self.data / "zookeeper"
        settings = {"dataDir": data.as_posix(), "clientPort": str(port), "clientPortAddress": "localhost"}
        self._write_settings("zookeeper", "zookeeper.properties", settings)
        # Its server and its purge task both make this directory at their start, and the slower one then gives up.
        (data / "version-2").mkdir(parents=True, exist_ok=True)
        offset = self._spawn("zookeeper", jars, ZOOKEEPER_HEAP, f"localhost:{port}")
        while not _listens("localhost", port):
            self._check_alive("zookeeper", deadline, offset)
            time.sleep(POLL_SECONDS)
        return port

    def _start_kafka(self, jars: Sequence[Path], deadline: float) -> None:
        while True:
            offset = self._spawn("kafka", jars, self.heap, self.bootstrap_servers)
            try:
                return self._wait_for_answer(deadline, offset)
            except LocalKafkaError:
                # ZooKeeper gives a killed broker's name away when its session runs out, after seconds.
                if "NodeExists" not in self._log_since("kafka", offset) or time.monotonic() > deadline:
                    raise
                self._end("kafka", by_force=True)

    def _spawn(self, name: str, jars: Sequence[Path], heap: str, address: str) -> int:
        """Start a process that outlives this one; return the size that its log had before."""
        command = java_command(jars, MAIN_CLASSES[name], [str(self._settings_path(name))], heap)
        log = self._log_path(name)
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            offset = output.tell()
            pid = spawn(command, output.fileno(), self.data, java_environment())
        PidFile(pid, psutil.Process(pid).create_time(), address).write(self._pid_path(name))
        return offset

    def _wait_for_answer(self, deadline: float, offset: int) -> None:
        while not broker_answers(self.host, self.port):
            self._check_alive("kafka", deadline, offset)
            time.sleep(POLL_SECONDS)

    def _check_alive(self, name: str, deadline: float, offset: int) -> None:
        """Raise LocalKafkaError with the log's last word if the process ended or the time is up."""
        title = {"kafka": "Kafka", "zookeeper": "ZooKeeper"}[name]
        log = self._log_path(name)
        if self._process(name) is None:
            failure = f"{title} ended at its start"
        elif time.monotonic() > deadline:
            failure = f"{title} did not answer within {START_SECONDS} s"
        else:
            return
        last = _last_line(self._log_since(name, offset).encode())
        raise LocalKafkaError(f"{failure}: {last} (more in {self._shown(log)})")

    def _log_since(self, name: str, offset: int) -> str:
        with self._log_path(name).open("rb") as file:
            file.seek(offset)
            return file.read(LOG_BYTES_MAX).decode("utf-8", "replace")

    def _pid_path(self, name: str) -> Path:
        return self.data / f"{name}.pid"

    def _settings_path(self, name: str) -> Path:
        return self.data / f"{name}.properties"

    def _log_path(self, name: str) -> Path:
        return self.data / "logs" / f"{name}.log"

    def _shown(self, path: Path) -> str:
        """Return a path as a person at this directory would write it."""
        return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def broker_answers(host: str, port: int) -> bool:
    """Ask for the cluster's brokers (Metadata v1, no topics): true when at least one is there to be used."""
    request = struct.pack(">hhihi", 3, 1, 7, -1, 0)
    try:
        with (
            socket.create_connection((host.strip("[]"), port), ANSWER_SECONDS) as connection,
            connection.makefile("rb") as reader,
        ):
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = reader.read(12)
    except OSError:
        return False
    if len(answer) < 12:  # noqa: PLR2004
        return False
    _size, correlation, brokers = struct.unpack(">iii", answer)
    return bool(correlation == 7 and brokers > 0)  # noqa: PLR2004


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host.strip("[]"), port), ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port of the loopback address where nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _escaped(value: str) -> str:
    """Write a value for Java's properties, which are Latin-1 with backslash escapes, like JSON's."""
    return json.dumps(value)[1:-1]


_COMPLAINT = re.compile(r"ERROR|FATAL|Exception|Error")


def _last_line(log: bytes) -> str:
    """Return the last complaint in a log, else its last line."""
    lines = [line.strip() for line in log.decode("utf-8", "replace").splitlines() if line.strip()]
    complaints = [line for line in lines if _COMPLAINT.search(line) and not line.startswith("at ")]
    return (complaints or lines or ["it wrote no log"])[-1]
