"""The image, built without Docker: Buildah, on a base of Debian's own packages. Needs root, and nothing that runs."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RELEASES = {"trixie": "Python 3.13", "bookworm": "Python 3.11"}
PACKAGES = ("ca-certificates", "netbase", "tzdata", "python3")
BUILD_PACKAGES = ("python3-venv",)  # the official images have pip
NEEDLESS = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "var/lib/apt/lists")
BASE, BUILD_BASE, IMAGE = "localhost/python-base", "localhost/python-build", "localhost/unique-users"
# What downloads in the build needs of this machine: its certificates, and where pip looks.
FROM_HERE = ("/etc/ssl/certs", "/etc/pip.conf")


class Store:
    """Images in a directory of their own. `seconds` has what each step took, in turn."""

    def __init__(self, directory: Path, release: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.release = release  # of Debian
        self.seconds: dict[str, float] = {}

    def buildah(self, *arguments: str) -> str:
        """Run it; gives what it prints."""
        place = ("--storage-driver", "vfs", "--root", f"{self.directory}/storage", "--runroot", f"{self.directory}/run")
        done = subprocess.run(
            ["buildah", *place, *arguments],
            env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def make_bases(self) -> None:
        """What python:slim is from Docker's registry: Debian with Python, without documentation and compiled modules.

        The base of the first stage has pip, too.
        """
        if BUILD_BASE in self.buildah("images", "--format", "{{.Name}}"):
            return
        rootfs = self.directory / "rootfs"
        shutil.rmtree(rootfs, ignore_errors=True)
        self._timed(
            "debootstrap",
            ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", self.release, str(rootfs)],
        )
        _slim(rootfs)
        began = time.monotonic()
        self._commit(self.buildah("from", "scratch"), BASE, rootfs)
        self.seconds["import the base"] = time.monotonic() - began
        began = time.monotonic()
        container = self.buildah("from", BASE)
        install = f"apt-get update -qq && apt-get install -qq --no-install-recommends {' '.join(BUILD_PACKAGES)}"
        self.buildah("run", container, "--", "sh", "-c", f"{install} >/dev/null 2>&1")
        self._commit(container, BUILD_BASE)
        self.seconds["the base of the first stage"] = time.monotonic() - began
        shutil.rmtree(rootfs)

    def _commit(self, container: str, name: str, rootfs: Path | None = None) -> None:
        if rootfs:
            self.buildah("add", "--quiet", container, str(rootfs), "/")
        self.buildah("commit", "--quiet", container, name)
        self.buildah("rm", container)

    def build(self, context: Path, *, log: Path) -> None:
        """Build the Dockerfile, and note the seconds of each of its steps."""
        mounts = [f"--volume={path}:{path}:ro" for path in FROM_HERE if Path(path).exists()]
        bases = [f"--build-arg=PYTHON_IMAGE={BASE}", f"--build-arg=BUILD_IMAGE={BUILD_BASE}"]
        self._timed(
            "buildah build",
            ["buildah", "--storage-driver", "vfs", "--root", f"{self.directory}/storage",
             "--runroot", f"{self.directory}/run", "build", "--isolation=chroot", "--format=docker", "--no-cache",
             *mounts, *bases, f"--tag={IMAGE}", str(context)],
            log,
        )  # fmt: skip

    def _timed(self, what: str, command: Sequence[str], log: Path | None = None) -> None:
        """Run a command and note its seconds; with a log, also those of each line that begins with STEP."""
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        lines: list[str] = []
        step, step_began = "", began
        for line in process.stdout:
            lines.append(line)
            if log and (found := re.match(r"(\[\d/\d\] )?STEP \d+/\d+: (.*)|(COMMIT) ", line)):
                self._note(step, step_began)
                step, step_began = (found[2] or "COMMIT").strip(), time.monotonic()
        self._note(step, step_began)
        if log:
            log.write_text("".join(lines), encoding="utf-8")
        if process.wait():
            raise SystemExit(f"{what} failed:\n{''.join(lines[-40:])}")
        self.seconds[what] = time.monotonic() - began

    def _note(self, step: str, began: float) -> None:
        if step and (seconds := time.monotonic() - began) >= 1:  # the others only set something
            self.seconds[step] = seconds

    def mount(self) -> tuple[str, Path]:
        """A container of the image, and where its root is."""
        container = self.buildah("from", IMAGE)
        return container, Path(self.buildah("mount", container))

    def unmount(self, container: str) -> None:
        """Remove a container."""
        self.buildah("umount", container)
        self.buildah("rm", container)

    def config(self) -> dict[str, Any]:
        """How the image is to be run: its user, entrypoint, environment, labels, health check."""
        found: dict[str, Any] = json.loads(self.buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
        return found


def _slim(rootfs: Path) -> None:
    for name in NEEDLESS:
        shutil.rmtree(rootfs / name)
        (rootfs / name).mkdir()
    for pattern in ("usr/lib/python3*/**/__pycache__", "var/cache/apt/*", "var/log/*", "var/cache/debconf/*-old"):
        for path in rootfs.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def bytes_of(root: Path) -> int:
    """The bytes of all files below, each once: what Docker calls the size of an image."""
    seen: dict[int, int] = {}
    for directory, _, names in os.walk(root):
        for name in names:
            status = (Path(directory) / name).lstat()
            seen[status.st_ino] = status.st_size
    return sum(seen.values())
