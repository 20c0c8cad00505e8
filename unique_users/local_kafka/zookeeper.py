"""The ZooKeeper that a local Kafka 2.4 needs."""

import time
from collections.abc import Sequence
from pathlib import Path

from unique_users.local_kafka.errors import LocalKafkaError
from unique_users.local_kafka.java_process import JavaDaemon
from unique_users.local_kafka.probe import free_port, listens

POLL_SECONDS = 0.05
HEAP = "256m"


def start_zookeeper(data: Path, wanted_port: int | None, jars: Sequence[Path], deadline: float) -> int:
    """Start ZooKeeper unless it is running, wait until it listens and return its port: any free one by default."""
    zookeeper = JavaDaemon("zookeeper", data)
    owner = zookeeper.owner()
    if owner is not None and zookeeper.process() is not None:
        return int(owner.address.rpartition(":")[2])
    if owner is not None:
        zookeeper.remove_stale(owner)
    port = wanted_port or free_port()
    if listens("localhost", port):
        raise LocalKafkaError(f"port {port}, needed for ZooKeeper, is in use by another program: stop that one")
    files = data / "zookeeper"
    settings = {"dataDir": files.as_posix(), "clientPort": str(port), "clientPortAddress": "localhost"}
    zookeeper.write_settings("zookeeper.properties", settings)
    # Its server and its purge task both create this directory at startup, and the slower one then gives up.
    (files / "version-2").mkdir(parents=True, exist_ok=True)
    offset = zookeeper.spawn(jars, HEAP, f"localhost:{port}")
    while not listens("localhost", port):
        zookeeper.check_alive(deadline, offset)
        time.sleep(POLL_SECONDS)
    return port
