"""A local Kafka for development and tests: one broker on the loopback address, kept in one directory.

The directory `DATA` holds `kafka/` (and `zookeeper/` for 2.4), the settings in effect (`kafka.properties`),
`logs/`, the version it belongs to, and while they run `kafka.pid` and `zookeeper.pid`; a secured one has its
certificates and passwords in `secure/`. The processes outlive who started them.

Longer than other modules: one class is what the commands, the demo and the tests start and stop.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from unique_users.local_kafka.data_directory import check_data, data_version, explained, format_storage, new_cluster_id
from unique_users.local_kafka.errors import LocalKafkaError, UsageError
from unique_users.local_kafka.jars import fetch_jars
from unique_users.local_kafka.java_process import START_SECONDS, JavaDaemon, shown
from unique_users.local_kafka.metrics import Metrics
from unique_users.local_kafka.probe import Login, brokers_known, free_port, listens
from unique_users.local_kafka.security import Security
from unique_users.local_kafka.zookeeper import start_zookeeper

__all__ = ["LocalKafka", "Status", "free_port", "local_address"]

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
POLL_SECONDS = 0.05
# What ends a broker at its start and passes: ZooKeeper gives a killed one's name away when its session runs out, after
# seconds; and the controllers of a cluster that starts on a busy machine may not have agreed on a leader yet.
PASSING = ("NodeExists", "NotControllerException")


@dataclass(frozen=True)
class Status:
    """Whether the broker can be used, and one line for a person."""

    answers: bool
    text: str


def local_address(bootstrap_servers: Sequence[str]) -> tuple[str, int] | None:
    """Return host and port of the first address if all `bootstrap_servers` are loopback, or None for another cluster.

    Raises UsageError for an impossible port.
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
    """The place of a node in a cluster: its number among the `controllers`, counted from 1, and the cluster's id."""

    node: int
    controllers: Sequence[str]
    cluster_id: str


@dataclass
class LocalKafka:
    """One broker of Kafka `version` with its data below `data`, reached at `host:port`.

    `zookeeper_port` is for 2.4.0 (None: any free one), `heap` is the broker's, in Java's notation, and `properties`
    override those of `kafka-config/`. Without a `membership` it is alone; without `security` anybody may do anything;
    without `metrics` it serves none.
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
    metrics: Metrics | None = None

    def __post_init__(self) -> None:
        """Resolve the paths, so that they hold if the working directory changes."""
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
        """The broker's process id, or None if it is not running."""
        process = self._kafka.process()
        return None if process is None else process.pid

    def start(self) -> bool:
        """Start what is not running yet and wait until the broker takes requests. Returns whether it had to start.

        1. fetch and check the jars
        2. check the data directory and its version, claim it with the pid file
        3. check the port, write the settings, format new storage
        4. start ZooKeeper (2.4 only), then Kafka, and wait for its answer
        A start that fails leaves nothing running. Raises LocalKafkaError.
        """
        jars = fetch_jars(self.version)
        with explained(self.data):
            check_data(self.data, self.version)
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
        """Stop the broker, then its ZooKeeper, by force after 30 s each. Returns whether one was running.

        Raises LocalKafkaError for another user's processes, or if a start is under way.
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
        """Look at the processes and query the broker; changes nothing."""
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
        text = f"Kafka {data_version(self.data)} runs at {owner.address} (process {owner.pid}, data in"
        return Status(answers=True, text=f"{text} {shown(self.data)})")

    def brokers_known(self) -> int:
        """How many brokers of its cluster it knows to be up."""
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

    # 2. What is running.

    def _runs_already(self) -> bool:
        """Whether our broker is running and answers; waits for one that another start began."""
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
                " first, or fix kafka.bootstrap_servers"
            )
        self._wait_for_answer(time.monotonic() + START_SECONDS, 0)
        if self.metrics is not None:
            self.metrics.check_served()
        return True

    def _refuse_while_starting(self) -> None:
        owner = self._kafka.owner()
        if owner is not None and owner.starting and self._kafka.process() is not None:
            raise LocalKafkaError(f"Kafka in {str(self.data)!r} is being started by process {owner.pid}: wait for it")

    # 3. Before the start.

    def _check_port(self) -> None:
        if self._port_taken():
            raise LocalKafkaError(
                f"port {self.port} is in use by another program: stop that one, or choose another port in"
                " kafka.bootstrap_servers"
            )

    def _port_taken(self) -> bool:
        return listens(self.host, self.port)

    # 4. The processes.

    def _start_processes(self, jars: Sequence[Path]) -> None:
        self._check_port()
        if self.metrics is not None:
            self.metrics.check_port()
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
        format_storage(self.data, jars, member.cluster_id, self.heap, self.security)
        self._start_kafka(jars, time.monotonic() + START_SECONDS)

    def _start_with_zookeeper(self, jars: Sequence[Path]) -> None:
        deadline = time.monotonic() + START_SECONDS
        port = start_zookeeper(self.data, self.zookeeper_port, jars, deadline)
        settings = {
            "listeners": f"PLAINTEXT://{self.bootstrap_servers}",
            "zookeeper.connect": f"localhost:{port}",
            "log.dirs": (self.data / "kafka").as_posix(),
        }
        self._kafka.write_settings("server.properties", {**settings, **self.properties})
        self._start_kafka(jars, deadline)

    def _start_kafka(self, jars: Sequence[Path], deadline: float) -> None:
        options = [] if self.metrics is None else self.metrics.java_options()
        while True:
            offset = self._kafka.spawn(jars, self.heap, self.bootstrap_servers, options)
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
