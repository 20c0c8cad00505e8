"""compose.yaml as podman-compose resolves it: anchors merged, variables filled in."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import yaml

PROFILES = ("check", "postgres")
OURS = "unique-users"


class Mount(NamedTuple):
    """A volume, or a file or directory of this machine, and where it is in the container."""

    source: str
    target: str
    read_only: bool

    @property
    def is_volume(self) -> bool:
        """Whether it is a volume, which has a name and no path."""
        return not self.source.startswith((".", "/"))


def resolved(file: Path) -> dict[str, Any]:
    """All of it. Raises CalledProcessError, with what it says in `stderr`."""
    with TemporaryDirectory() as place:
        # It only wants to know that there is one.
        podman = Path(place) / "podman"
        podman.write_text("#!/bin/sh\necho podman version 5.0.0\n", encoding="utf-8")
        podman.chmod(0o755)
        profiles = [f"--profile={profile}" for profile in PROFILES]
        done = subprocess.run(
            [sys.executable, "-m", "podman_compose", "-f", str(file), *profiles, "config"],
            env={**os.environ, "PATH": f"{place}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
        )
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    return found


def mounts_of(service: Mapping[str, Any]) -> Iterator[Mount]:
    """What is mounted into the containers of a service."""
    for volume in service.get("volumes", []):
        source, target, *options = volume.split(":")
        yield Mount(source, target, options == ["ro"])


def is_ours(service: Mapping[str, Any]) -> bool:
    """Whether a service runs our image."""
    return str(service["image"]).partition(":")[0] == OURS


def in_order(services: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The names of services, each after those that it depends on. Raises KeyError for one that is not there."""
    order: list[str] = []

    def visit(name: str) -> None:
        for needed in services[name].get("depends_on", {}):
            visit(needed)
        if name not in order:
            order.append(name)

    for name in services:
        visit(name)
    return order
