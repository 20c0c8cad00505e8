"""Several local brokers that form one cluster, each of them also a controller: for tests and learning.

`DATA/node-1`, `DATA/node-2`, … are the nodes, each a LocalKafka of its own. `DATA/cluster.json` holds their ids and
addresses: the others have to find a node that restarts.
"""

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from unique_users.local_kafka.broker import LocalKafka, Membership, Status
from unique_users.local_kafka.data_directory import explained, new_cluster_id
from unique_users.local_kafka.errors import LocalKafkaError, UsageError
from unique_users.local_kafka.java_process import START_SECONDS, shown
from unique_users.local_kafka.metrics import Metrics
from unique_users.local_kafka.probe import free_port, listens
from unique_users.local_kafka.security import Security

NODE_HEAP = "384m"  # three fit on a laptop
POLL_SECONDS = 0.1
PORT_MAX = 65_535
Result = TypeVar("Result")


@dataclass(frozen=True)
class Addresses:
    """The nodes' addresses for clients, those of their controllers, and the cluster's id."""

    brokers: list[str]
    controllers: list[str]
    cluster_id: str

    @classmethod
    def read(cls, data: Path) -> Self | None:
        """The layout of the cluster in `data`, or None if there is none. Raises LocalKafkaError."""
        path = data / "cluster.json"
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError):
            raise LocalKafkaError(f"{path}: damaged: name another directory with --set broker.data=DIRECTORY") from None

    @classmethod
    def new(cls, host: str, port: int, size: int, cluster_id: str) -> Self:
        """`size` nodes at `host`, the first at `port`, the others at the next free ports."""
        ports = [port]
        while len(ports) < size:
            ports.append(_free_after(host, ports[-1]))
        controllers: list[str] = []
        while len(controllers) < size:
            if (found := free_port()) not in ports and f"localhost:{found}" not in controllers:
                controllers.append(f"localhost:{found}")
        return cls([f"{host}:{port}" for port in ports], controllers, cluster_id)

    def write(self, data: Path) -> None:
        """Save it in `data`."""
        staged = data / "cluster.json.new"
        staged.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        staged.replace(data / "cluster.json")


def _free_after(host: str, port: int) -> int:
    for candidate in range(port + 1, PORT_MAX + 1):
        if not listens(host, candidate):
            return candidate
    raise LocalKafkaError(f"no free port after {port}: choose a lower one in kafka.bootstrap_servers")


def local_kafka(
    version: str,
    data: Path,
    address: tuple[str, int],
    nodes: int | None = None,
    metrics: Metrics | None = None,
    *,
    secure: bool = False,
) -> "LocalKafka | LocalCluster":
    """The local Kafka in the directory `data`, as it was created, or else as it is to be created.

    Raises UsageError for a version that does not allow that, LocalKafkaError for a directory created differently.
    """
    data = data.absolute()
    host, port = address
    layout, security = Addresses.read(data), Security(data / "secure")
    if version.startswith("2.") and (secure or (nodes or 1) > 1):
        raise UsageError("--nodes and --secure need Kafka 4: start with --kafka-version 4.3.1")
    if version.startswith("2.") and metrics is not None:
        raise UsageError("--metrics needs Kafka 4: start with --kafka-version 4.3.1")
    if (data / "kafka-version").exists() or layout is not None:
        size = 1 if layout is None else len(layout.brokers)
        if nodes not in {None, size}:
            raise _made_otherwise(data, f"{size} {'node' if size == 1 else 'nodes'}")
        if secure and not security.exists:
            raise _made_otherwise(data, "no security")
    else:
        size = nodes or 1
    wanted = security if secure or security.exists else None
    if size == 1:
        return LocalKafka(version, data, port, host=host, security=wanted, metrics=metrics)
    return LocalCluster(version, data, port, size, host=host, security=wanted, metrics=metrics)


def _made_otherwise(data: Path, made: str) -> LocalKafkaError:
    return LocalKafkaError(
        f"broker.data: {str(data)!r} was made with {made}: name another directory with --set broker.data=DIRECTORY"
    )


@dataclass
class LocalCluster:
    """`size` brokers of Kafka `version` below `data`, the first at `host:port`. Used like a LocalKafka."""

    version: str
    data: Path
    port: int
    size: int
    host: str = "localhost"
    heap: str = NODE_HEAP
    properties: Mapping[str, str] = field(default_factory=dict)
    security: Security | None = None
    metrics: Metrics | None = None  # of the first node; the others serve theirs at the ports after it

    def __post_init__(self) -> None:
        """Find out where the nodes are, or choose where they will be."""
        self.data = self.data.absolute()
        kept = Addresses.read(self.data)
        self._layout = kept or Addresses.new(self.host, self.port, self.size, new_cluster_id())
        self.size = len(self._layout.brokers)

    def __enter__(self) -> Self:
        """Start the cluster."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the cluster."""
        self.stop()

    @property
    def bootstrap_servers(self) -> str:
        """The addresses of all nodes, for `kafka.bootstrap_servers`."""
        return ",".join(self._layout.brokers)

    @property
    def nodes(self) -> list[LocalKafka]:
        """The nodes; each can be killed and started alone. Node N has the id N and index N - 1."""
        return [self._node(number) for number in range(1, self.size + 1)]

    def start(self) -> bool:
        """Start the nodes that are not running and wait until all know each other. Returns whether any had to start.

        A start that fails leaves none of them running. Raises LocalKafkaError.
        """
        with explained(self.data):
            self.data.mkdir(exist_ok=True)
            if not any(node.pid for node in self.nodes):
                self._choose_ports()
            self._layout.write(self.data)
            if self.security is not None:
                self.security.make(self.bootstrap_servers, self.data)
        running = {node.port for node in self.nodes if node.pid}
        try:
            # In parallel: none of them answers before most of them are up.
            started = self._each(LocalKafka.start)
            self._wait_for_all()
        except BaseException:
            for node in self.nodes:
                if node.port not in running:
                    node.stop()
            raise
        return any(started)

    def stop(self) -> bool:
        """Stop all nodes. Returns whether any was running."""
        return any(self._each(LocalKafka.stop))

    def kill(self) -> None:
        """End all nodes at once, as `kill -9` does."""
        self._each(LocalKafka.kill)

    def status(self) -> Status:
        """Look at every node; the cluster can be used if all of them answer."""
        found = self._each(LocalKafka.status)
        if all(status.answers for status in found):
            pids = ", ".join(str(node.pid) for node in self.nodes)
            text = f"Kafka {self.version} runs at {self.bootstrap_servers} (processes {pids}, data in"
            return Status(answers=True, text=f"{text} {shown(self.data)})")
        texts = [f"node {number}: {status.text}" for number, status in enumerate(found, 1) if not status.answers]
        return Status(answers=False, text=f"{len(texts)} of {self.size} nodes cannot be used: {'; '.join(texts)}")

    def _node(self, number: int) -> LocalKafka:
        host, _, port = self._layout.brokers[number - 1].rpartition(":")
        copies = str(min(self.size, 3))
        most = str(min(self.size, 2))
        replication = {
            "default.replication.factor": copies,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": most,
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": most,
            # All stop together: the last one would wait in vain for others to take over its partitions.
            "controlled.shutdown.enable": "false",
        }
        return LocalKafka(
            self.version,
            self.data / f"node-{number}",
            int(port),
            host=host,
            heap=self.heap,
            properties={**replication, **self.properties},
            membership=Membership(number, self._layout.controllers, self._layout.cluster_id),
            security=self.security,
            metrics=None if self.metrics is None else Metrics(self.metrics.port + number - 1),
        )

    def _choose_ports(self) -> None:
        """Keep the previous ports if possible."""
        first = f"{self.host}:{self.port}"
        taken = [at for at in (*self._layout.brokers[1:], *self._layout.controllers) if _taken(at)]
        if self._layout.brokers[0] != first or taken:
            self._layout = Addresses.new(self.host, self.port, self.size, self._layout.cluster_id)

    def _wait_for_all(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while any(known < self.size for known in self._each(LocalKafka.brokers_known)):
            if time.monotonic() > deadline:
                raise LocalKafkaError(f"the nodes did not find each other within {START_SECONDS} s: see their logs")
            time.sleep(POLL_SECONDS)

    def _each(self, action: Callable[[LocalKafka], Result]) -> list[Result]:
        with ThreadPoolExecutor(self.size) as pool:
            return list(pool.map(action, self.nodes))


def _taken(address: str) -> bool:
    host, _, port = address.rpartition(":")
    return listens(host, int(port))
