"""Runs a command as a container engine would: a root of its own that is read-only, its own network address, process 1.

Made of what Linux has (`ip netns`, `unshare`, `nsenter`, `chroot`, `setpriv`), where no container engine can run.
"""

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from composed import Mount
from patience import until

BRIDGE, SUBNET = "uu-test", "10.231.7"
USER = 10001
STOP_SECONDS = 10.0  # what Docker waits before it kills


def root_command(*words: str) -> None:
    """Run a command that has to succeed."""
    subprocess.run(words, check=True, capture_output=True)


class Network:
    """Network namespaces on one bridge, one for each name, which all of them know. A context manager."""

    def __init__(self, names: Sequence[str], directory: Path) -> None:
        self.addresses = {name: f"{SUBNET}.{number}" for number, name in enumerate(names, 2)}
        self.hosts = directory / "hosts"
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in self.addresses.items())]
        self.hosts.write_text("\n".join([*lines, ""]), encoding="utf-8")

    def __enter__(self) -> Self:
        """Make them."""
        self._remove()
        root_command("ip", "link", "add", BRIDGE, "type", "bridge")
        root_command("ip", "addr", "add", f"{SUBNET}.1/24", "dev", BRIDGE)
        root_command("ip", "link", "set", BRIDGE, "up")
        for name, address in self.addresses.items():
            space, inner = f"{BRIDGE}-{name}", f"uu{address.rpartition('.')[2]}"
            root_command("ip", "netns", "add", space)
            root_command("ip", "link", "add", inner, "type", "veth", "peer", "name", "eth0", "netns", space)
            root_command("ip", "link", "set", inner, "master", BRIDGE, "up")
            root_command("ip", "-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            root_command("ip", "-n", space, "link", "set", "eth0", "up")
            root_command("ip", "-n", space, "link", "set", "lo", "up")
        return self

    def __exit__(self, *raised: object) -> None:
        """Remove them."""
        self._remove()

    def _remove(self) -> None:
        for name in self.addresses:
            subprocess.run(["ip", "netns", "del", f"{BRIDGE}-{name}"], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", BRIDGE], check=False, capture_output=True)

    def inside(self, name: str, command: Sequence[str]) -> list[str]:
        """The command line that runs a command with the network of a name."""
        return ["ip", "netns", "exec", f"{BRIDGE}-{name}", *command]


@dataclass
class Container:
    """One run of a command in the image. As a context manager it is killed at the end if it still runs."""

    name: str
    root: Path
    image: Mapping[str, Any]  # the image's configuration
    command: Sequence[str]
    network: Network
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[Mount] = ()  # sources are paths
    _process: "subprocess.Popen[bytes] | None" = None

    def __enter__(self) -> Self:
        """Start it."""
        script = "\n".join([*self._mounting(), f"exec {shlex.join(self._chroot(self.command))}"])
        unshare = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "sh", "-ec", script]
        with self.log.open("ab") as said:
            self._process = subprocess.Popen(
                self.network.inside(self.name, unshare), stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, by force if it runs."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _mounting(self) -> list[str]:
        """What an engine mounts, then the root once more, read-only."""
        root = shlex.quote(str(self.root))
        lines = [
            "mount --make-rprivate /",
            f"mount --bind {root} {root}",
            f"mount -t proc proc {root}/proc",
            f"mount -t tmpfs tmpfs {root}/tmp",
            f"mount -t tmpfs -o mode=755 tmpfs {root}/dev",
            *(f"mknod -m 666 {root}/dev/{name} c 1 {minor}" for name, minor in _DEVICES.items()),
        ]
        for mount in [Mount(str(self.network.hosts), "/etc/hosts", read_only=True), *self.mounts]:
            target = shlex.quote(f"{self.root}{mount.target}")
            lines.append(f"mount --bind {shlex.quote(mount.source)} {target}")
            if mount.read_only:
                lines.append(f"mount -o remount,bind,ro {target}")
        return [*lines, f"mount -o remount,bind,ro {root}"]

    def _chroot(self, command: Sequence[str]) -> list[str]:
        """As the image's user, without capabilities, with the environment of image and service alone."""
        user, _, group = self.image["User"].partition(":")
        drop = ["setpriv", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
        drop += [f"--reuid={user}", f"--regid={group}"]
        variables = [*self.image["Env"], *(f"{key}={value}" for key, value in self.environment.items())]
        run = ["env", "-i", f"--chdir={self.image['WorkingDir']}", *variables, *command]
        return ["chroot", str(self.root), *drop, *run]

    def ask(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run another command in it, as `docker exec` does, as the same user."""
        variables = [*self.image["Env"], *(f"{key}={value}" for key, value in self.environment.items())]
        within = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--root", "--wd"]
        user, _, group = self.image["User"].partition(":")
        return subprocess.run(
            [*within, f"--setuid={user}", f"--setgid={group}", "/usr/bin/env", "-i", *variables, *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @property
    def pid(self) -> int:
        """Its first process, as this machine sees it."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        found = until(
            lambda: children.read_text(encoding="ascii").split(),
            lambda: f"its first process: {self.said()}",
            give_up=lambda: self.code is not None,
            every=0.01,
        )
        return int(found[0])

    def stop(self) -> int:
        """Ask it to stop, as `docker stop` does. Gives its exit code; a process that has to be killed is an error."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait(STOP_SECONDS)

    def wait(self, seconds: float) -> int:
        """Wait for its end, and give its exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    @property
    def code(self) -> int | None:
        """Its exit code, or None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def said(self) -> str:
        """All that it wrote."""
        return self.log.read_text(encoding="utf-8", errors="replace")


_DEVICES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}
