"""What stands in for the images of others: Kafka from its own jars, and Prometheus from Debian, as compose.yaml says.

Kafka is configured and its storage formatted by the program of the official image, from the same environment.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from composed import mounts_of
from confined import Network

from unique_users.local_kafka.jars import fetch_jars, java_command
from unique_users.local_kafka.tools import TOOLS

WRAPPER = "kafka.docker.KafkaDockerWrapper"
HEAP = "512m"


class Kafka:
    """The service kafka. A context manager."""

    def __init__(self, service: Mapping[str, Any], network: Network, directory: Path) -> None:
        self._service = service
        self._network = network
        self._directory = directory
        self._jars = fetch_jars(str(service["image"]).partition(":")[2])
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> None:
        """Write its configuration as the official image does, and start it."""
        folders = [self._directory / name for name in ("default", "mounted", "final")]
        for folder in folders:
            folder.mkdir(parents=True)
        options = zip(("-D", "-M", "-F"), map(str, folders), strict=True)
        self._run(java_command(self._jars, WRAPPER, ["setup", *(word for pair in options for word in pair)], HEAP))
        properties = str(folders[-1] / "server.properties")
        with (self._directory / "log").open("wb") as said:
            command = java_command(self._jars, "kafka.Kafka", [properties], HEAP)
            self._process = subprocess.Popen(self._inside(command), stdout=said, stderr=said)

    def __exit__(self, *raised: object) -> None:
        """Stop it."""
        if self._process:
            self._process.terminate()
            self._process.wait(60)

    def healthy(self) -> bool:
        """Whether the health check of compose.yaml finds that it is."""
        _, script, *arguments = self._service["healthcheck"]["test"]
        tool = TOOLS[Path(script).stem][0]
        return self._run(java_command(self._jars, tool, arguments, HEAP, quick=True), check=False) == 0

    def _run(self, command: list[str], *, check: bool = True) -> int:
        environment = {**os.environ, **{key: str(value) for key, value in self._service["environment"].items()}}
        environment["KAFKA_LOG_DIRS"] = str(self._directory / "data")  # the volume
        done = subprocess.run(
            self._inside(command), env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert done.returncode == 0 or not check, done.stdout.decode()
        return done.returncode

    def _inside(self, command: list[str]) -> list[str]:
        return self._network.inside("kafka", with_files({str(self._network.hosts): "/etc/hosts"}, command))


def prometheus_command(service: Mapping[str, Any], network: Network, directory: Path) -> list[str]:
    """The command line of the service prometheus, with the files that compose.yaml mounts."""
    files = {mount.source: mount.target for mount in mounts_of(service) if not mount.is_volume}
    command = [
        "prometheus",
        "--config.file=/etc/prometheus/prometheus.yml",
        f"--storage.tsdb.path={directory / 'prometheus'}",
    ]
    over = {str(network.hosts): "/etc/hosts", **files}
    return network.inside("prometheus", with_files(over, command, empty="/etc/prometheus"))


def with_files(over: Mapping[str, str], command: list[str], empty: str = "") -> list[str]:
    """The command line that runs a command with files mounted over others, in a directory `empty` of its own."""
    lines = ["mount --make-rprivate /"]
    if empty:
        lines.append(f"mount -t tmpfs tmpfs {empty}")
    for source, target in over.items():
        lines += [f"[ -e {target} ] || touch {target}", f"mount --bind {source} {target}"]
    return ["unshare", "--mount", "sh", "-ec", "\n".join([*lines, 'exec "$@"']), "sh", *command]
