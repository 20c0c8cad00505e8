"""A local Kafka for development and tests: one broker on the loopback address, kept in one directory.

The directory `DATA` holds `kafka/` (and `zookeeper/` for 2.4), the settings in effect (`kafka.properties`),
`logs/`, the version it belongs to, and while they run `kafka.pid` and `zookeeper.pid`; a secured one has its
certificates and passwords in `secure/`. The processes outlive who started them.
"""

import base64
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

from unique_users.broker_probe import Login, brokers_known, free_port, listens
from unique_users.daemons import reason, write_private
from unique_users.errors import LocalKafkaError, UsageError
from unique_users.java_daemon import START_SECONDS, JavaDaemon, last_complaint, shown
from unique_users.kafka_jars import fetch_jars, java_command, java_environment
from unique_users.local_security import Security

__all__ = ["LocalKafka", "Status", "free_port", "local_address"]

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
POLL_SECONDS = 0.05
# What ends a broker at its start and passes: ZooKeeper gives a killed one's name away when its session runs out, after
# seconds; and the controllers of a cluster that starts on a busy machine may not have agreed on a leader yet.
PASSING = ("NodeExists", "NotControllerException")
ZOOKEEPER_HEAP = "256m"


@dataclass(frozen=True)
class Status:
    """Whether the broker can be used, and one line for a person."""

    answers: bool
    text: str


def local_address(bootstrap_servers: Sequence[str]) -> tuple[str, int] | None:
    """Return host and port of the first if all `bootstrap_servers` are loopback addresses, None for another cluster.

    Raises UsageError for a port that cannot be.
    """
    addresses = [server.lower().rpartition(":") for server in bootstrap_servers]
    if not addresses or any(host not in LOOPBACK for host, _, _ in addresses):
        return None
    host, _, port = addresses[0]
    if not 1 <= int(port) <= 65_535:  # noqa: PLR2004
        raise UsageError(f"kafka.bootstrap_servers: expected a port from 1 to 65535, got {bootstrap_servers[0]!r}")
    return host, int(port)


@dataclass(frozen=True)
class Membership:
    """The place of a node in a cluster: which of the `controllers` it is, counted from 1, and the cluster's id."""

    node: int
    controllers: Sequence[str]
    cluster_id: str


@dataclass
class LocalKafka:
    """One broker of Kafka `version` with its data below `data`, reached at `host:port`.

    `zookeeper_port` is for 2.4.0 (None: any free one), `heap` is the broker's, in Java's notation, `properties`
    go over those of `kafka-config/`. Without a `membership` it is alone, without `security` anybody may do anything.
    As a context manager it starts on entry and stops on exit.
    """

    version: str
    data: Path
    port: int
    zookeeper_port: int | None = None
    host: str = "localhost"
    heap: str = "1g"
    properties: Mapping[str, str] = field(default_factory=dict)
    membership: Membership | None = None
    security: Security | None = None

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
        process = self._kafka.process()
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
        with explained(self.data):
            self._check_data()
            if self._runs_already():
                return False
            if not self._kafka.claim(self.bootstrap_servers):
                raise LocalKafkaError(f"Kafka in {str(self.data)!r} is being started by another process: wait for it")
            try:
                self._start_processes(jars)
            except BaseException:
                for daemon in self._daemons:
                    daemon.end(by_force=True)
                raise
        return True

    def stop(self) -> bool:
        """End the broker, then its ZooKeeper, by force after 30 s each; return whether one ran.

        Raises LocalKafkaError for processes of another user or a start that is under way.
        """
        self._refuse_while_starting()
        with explained(self.data):
            ended = [daemon.end(by_force=False) for daemon in self._daemons]
        return any(ended)

    def kill(self) -> None:
        """End everything at once, as `kill -9` does. The pid files stay, as they do after a crash."""
        self._refuse_while_starting()
        for daemon in self._daemons:
            daemon.kill()

    def status(self) -> Status:
        """Look at the processes and ask the broker; changes nothing."""
        owner = self._kafka.owner()
        log = shown(self._kafka.log_path)
        if owner is None:
            taken = f", another program answers at {self.bootstrap_servers}" if self._port_taken() else ""
            return Status(answers=False, text=f"Kafka is not running{taken} (data in {shown(self.data)})")
        if self._kafka.process() is None:
            gone = f"its process {owner.pid} was killed or crashed"
            return Status(answers=False, text=f"Kafka is not running: {gone}, see {log}")
        if owner.starting:
            return Status(answers=False, text=f"Kafka is being started by process {owner.pid}")
        host, _, port = owner.address.rpartition(":")
        if not brokers_known(host, int(port), self._login()):
            text = f"Kafka's process {owner.pid} runs but does not answer at {owner.address}: see {log}"
            return Status(answers=False, text=text)
        text = f"Kafka {self._data_version()} runs at {owner.address} (process {owner.pid}, data in"
        return Status(answers=True, text=f"{text} {shown(self.data)})")

    def brokers_known(self) -> int:
        """How many brokers of its cluster it knows to be there."""
        return brokers_known(self.host, self.port, self._login())

    def _login(self) -> Login | None:
        return None if self.security is None else self.security.login()

    @property
    def _kafka(self) -> JavaDaemon:
        return JavaDaemon("kafka", self.data)

    @property
    def _zookeeper(self) -> JavaDaemon:
        return JavaDaemon("zookeeper", self.data)

    @property
    def _daemons(self) -> list[JavaDaemon]:
        return [self._kafka, self._zookeeper]

    # 2. The data directory, and who runs.

    def _check_data(self) -> None:
        if "," in str(self.data):
            raise UsageError(f"broker.data: Kafka cannot use a directory with a comma in its path: {str(self.data)!r}")
        # Never its parents: a disk that is not mounted must not become a directory.
        self.data.mkdir(exist_ok=True)
        self._kafka.log_path.parent.mkdir(exist_ok=True)
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

    def _runs_already(self) -> bool:
        """Tell whether our broker runs and answers; wait for one that another start began."""
        self._refuse_while_starting()
        owner = self._kafka.owner()
        if owner is None:
            return False
        if self._kafka.process() is None:
            self._kafka.remove_stale(owner)
            return False
        if owner.address != self.bootstrap_servers:
            raise LocalKafkaError(
                f"Kafka in {str(self.data)!r} runs at {owner.address}, not at {self.bootstrap_servers}: stop it"
                " first, or mend kafka.bootstrap_servers"
            )
        self._wait_for_answer(time.monotonic() + START_SECONDS, 0)
        return True

    def _refuse_while_starting(self) -> None:
        owner = self._kafka.owner()
        if owner is not None and owner.starting and self._kafka.process() is not None:
            raise LocalKafkaError(f"Kafka in {str(self.data)!r} is being started by process {owner.pid}: wait for it")

    # 3. Before the start.

    def _check_port(self) -> None:
        if self._port_taken():
            raise LocalKafkaError(
                f"port {self.port} is taken by another program: stop that one, or choose another port in"
                " kafka.bootstrap_servers"
            )

    def _port_taken(self) -> bool:
        return listens(self.host, self.port)

    def _format(self, jars: Sequence[Path], cluster_id: str) -> None:
        """Give new storage its identity, and the users of a secured one; Kafka does not start without it."""
        if (self.data / "kafka" / "meta.properties").exists():
            return
        arguments = ["format", "--ignore-formatted", f"--cluster-id={cluster_id}", "-c", str(self._kafka.settings_path)]
        if self.security is not None:
            arguments += self.security.format_arguments()
        java, *options = java_command(jars, "kafka.tools.StorageTool", arguments, self.heap, quick=True)
        # In a file: a command line, where passwords must not stand, can be read by everybody.
        file = self.data / "format.arguments"
        write_private(file, "\n".join(f'"{_quoted(option)}"' for option in options))
        try:
            done = subprocess.run(  # noqa: S603 - our own command, no shell
                [java, f"@{file}"], capture_output=True, check=False, env=java_environment(), timeout=START_SECONDS
            )
            failure = last_complaint(done.stderr or done.stdout) if done.returncode else None
        except subprocess.TimeoutExpired:
            failure = f"not done after {START_SECONDS} s"
        finally:
            file.unlink()
        if failure is not None:
            raise LocalKafkaError(f"cannot format {str(self.data)!r}: {failure}")

    # 4. The processes.

    def _start_processes(self, jars: Sequence[Path]) -> None:
        self._check_port()
        if self.security is not None and self.membership is None:
            self.security.make(self.bootstrap_servers, self.data)
        if self.version.startswith("2."):
            self._start_with_zookeeper(jars)
        else:
            self._start_kraft(jars)

    def _start_kraft(self, jars: Sequence[Path]) -> None:
        member = self.membership or Membership(1, [f"localhost:{free_port()}"], new_cluster_id())
        protocol = "PLAINTEXT" if self.security is None else "SASL_SSL"
        settings = {
            "node.id": str(member.node),
            "listeners": f"{protocol}://{self.bootstrap_servers},CONTROLLER://{member.controllers[member.node - 1]}",
            "advertised.listeners": f"{protocol}://{self.bootstrap_servers}",
            "controller.quorum.voters": ",".join(f"{n}@{at}" for n, at in enumerate(member.controllers, 1)),
            "log.dirs": (self.data / "kafka").as_posix(),
        }
        secured = {} if self.security is None else self.security.broker_settings()
        self._kafka.write_settings("kraft.properties", {**settings, **secured, **self.properties})
        self._format(jars, member.cluster_id)
        self._start_kafka(jars, time.monotonic() + START_SECONDS)

    def _start_with_zookeeper(self, jars: Sequence[Path]) -> None:
        deadline = time.monotonic() + START_SECONDS
        port = self._start_zookeeper(jars, deadline)
        settings = {
            "listeners": f"PLAINTEXT://{self.bootstrap_servers}",
            "zookeeper.connect": f"localhost:{port}",
            "log.dirs": (self.data / "kafka").as_posix(),
        }
        self._kafka.write_settings("server.properties", {**settings, **self.properties})
        self._start_kafka(jars, deadline)

    def _start_zookeeper(self, jars: Sequence[Path], deadline: float) -> int:
        """Start ZooKeeper unless it runs, wait until it listens and return its port."""
        zookeeper = self._zookeeper
        owner = zookeeper.owner()
        if owner is not None and zookeeper.process() is not None:
            return int(owner.address.rpartition(":")[2])
        if owner is not None:
            zookeeper.remove_stale(owner)
        port = self.zookeeper_port or free_port()
        if listens("localhost", port):
            raise LocalKafkaError(f"port {port}, meant for ZooKeeper, is taken by another program: stop that one")
        data = self.data / "zookeeper"
        settings = {"dataDir": data.as_posix(), "clientPort": str(port), "clientPortAddress": "localhost"}
        zookeeper.write_settings("zookeeper.properties", settings)
        # Its server and its purge task both make this directory at their start, and the slower one then gives up.
        (data / "version-2").mkdir(parents=True, exist_ok=True)
        offset = zookeeper.spawn(jars, ZOOKEEPER_HEAP, f"localhost:{port}")
        while not listens("localhost", port):
            zookeeper.check_alive(deadline, offset)
            time.sleep(POLL_SECONDS)
        return port

    def _start_kafka(self, jars: Sequence[Path], deadline: float) -> None:
        while True:
            offset = self._kafka.spawn(jars, self.heap, self.bootstrap_servers)
            try:
                return self._wait_for_answer(deadline, offset)
            except LocalKafkaError:
                said = self._kafka.log_since(offset)
                if not any(word in said for word in PASSING) or time.monotonic() > deadline:
                    raise
                self._kafka.end(by_force=True)

    def _wait_for_answer(self, deadline: float, offset: int) -> None:
        while not self.brokers_known():
            self._kafka.check_alive(deadline, offset)
            time.sleep(POLL_SECONDS)


@contextmanager
def explained(data: Path) -> Iterator[None]:
    """Turn what the system refuses in the directory `data` into a user error."""
    try:
        yield
    except OSError as error:
        raise LocalKafkaError(
            f"broker.data: cannot use {str(error.filename or data)!r}: {reason(error)}: give it space"
            " and rights, make its parent or mount its disk, or name another directory"
        ) from None
    except psutil.Error as error:
        raise LocalKafkaError(
            f"Kafka's process in {str(data)!r} cannot be ended: {error}: is it another user's?"
        ) from None


def new_cluster_id() -> str:
    """An identity for new storage, as Kafka writes it."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _quoted(option: str) -> str:
    """Escape an option for Java's argument files."""
    return option.replace("\\", "\\\\").replace('"', '\\"')
