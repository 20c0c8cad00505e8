"""compose.yaml, run without a container engine: our image confined, stand-ins for Kafka and Prometheus.

Grafana and PostgreSQL have none, and do not run here.
"""

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from composed import Mount, in_order, is_ours, mounts_of
from confined import USER, Container, Network
from patience import until
from stand_ins import Kafka, prometheus_command

LEFT_OUT = ("grafana", "postgres", "export")


class Stack:
    """The services, each started once those that it depends on are as far as it wants them. A context manager."""

    def __init__(
        self, services: Mapping[str, Mapping[str, Any]], image: Mapping[str, Any], root: Path, directory: Path
    ) -> None:
        self.services = {name: service for name, service in services.items() if name not in LEFT_OUT}
        self.image = image
        self.root = root
        self.directory = directory
        self.network = Network(list(self.services), directory)
        self.running: dict[str, Container] = {}
        self._kafka: Kafka | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Make the network."""
        for path in ("etc/hosts", "etc/resolv.conf"):
            (self.root / path).touch()
        self._stack.enter_context(self.network)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything."""
        self._stack.close()

    def up(self, left_out: Iterable[str] = ()) -> None:
        """Start them, in order, as `docker compose up` does."""
        for name in in_order(self.services):
            service = self.services[name]
            if name in left_out or "profiles" in service:
                continue
            for needed, wanted in service.get("depends_on", {}).items():
                self._await(needed, wanted["condition"])
            self.start(name)

    def start(self, name: str) -> None:
        """Start one."""
        service = self.services[name]
        if is_ours(service):
            self.running[name] = self._stack.enter_context(self.container(name, service["command"]))
        elif name == "kafka":
            self._kafka = Kafka(service, self.network, self.directory / name)
            self._stack.enter_context(self._kafka)
        else:
            with (self.directory / f"{name}.log").open("wb") as said:
                command = prometheus_command(service, self.network, self.directory)
                process = subprocess.Popen(command, stdout=said, stderr=said)
            self._stack.callback(process.wait)
            self._stack.callback(process.terminate)

    def container(self, name: str, command: Iterable[str], log: str = "") -> Container:
        """A container of a service, with another command than its own."""
        service = self.services[name]
        environment = {key: str(value) for key, value in service["environment"].items()}
        mounts = [self._placed(mount) for mount in mounts_of(service)]
        log_path = self.directory / f"{log or name}.log"
        return Container(
            name,
            self.root,
            self.image,
            [*self.image["Entrypoint"], *command],
            self.network,
            log_path,
            environment,
            mounts,
        )

    def _placed(self, mount: Mount) -> Mount:
        """A new volume is a copy of what the image has there, with its owner, as Docker makes it."""
        if not mount.is_volume:
            return mount
        volume = self.directory / "volumes" / mount.source
        if not volume.exists():
            shutil.copytree(self.root / mount.target.lstrip("/"), volume)
            status = (self.root / mount.target.lstrip("/")).stat()
            assert status.st_uid == USER
            shutil.chown(volume, status.st_uid, status.st_gid)
        return mount._replace(source=str(volume))

    def _await(self, name: str, condition: str) -> None:
        if condition == "service_completed_successfully":
            until(lambda: self.running[name].code is not None, f"the end of {name}")
            assert self.running[name].code == 0, self.running[name].said()
        elif condition == "service_healthy":
            until(lambda: self.healthy(name), f"{name} to be healthy")

    def healthy(self, name: str) -> bool:
        """Whether the health check of a service finds that it is."""
        if name == "kafka":
            assert self._kafka
            return self._kafka.healthy()
        container = self.running[name]
        assert container.code is None, container.said()
        _, *check = self.services[name].get("healthcheck", self.image["Healthcheck"])["test"]
        return container.ask(*check).returncode == 0

    def prometheus(self, path: str) -> Any:
        """What Prometheus answers."""
        address = f"http://{self.network.addresses['prometheus']}:9090/api/v1/{path}"
        done = subprocess.run(["curl", "-fsS", "--max-time", "5", address], capture_output=True, text=True, check=False)
        return json.loads(done.stdout)["data"] if done.returncode == 0 else None
