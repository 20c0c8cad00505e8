"""Processes that outlive their starter: started detached, and found again by a pid file."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import psutil

from unique_users.local_kafka.errors import LocalKafkaError


@dataclass(frozen=True)
class PidFile:
    """The owner of a data directory: a process by id and start (epoch seconds), and the address it serves."""

    pid: int
    started: float
    address: str
    starting: bool = False

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read the file; None if there is none. A damaged one names process 0, which is nobody's."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError):
            return cls(pid=0, started=0, address="")
        except OSError as error:
            raise LocalKafkaError(
                f"broker.data: cannot read {str(path)!r}: {reason(error)}: fix its rights or its disk"
            ) from None

    def write(self, path: Path, *, new: bool = False) -> None:
        """Write the file atomically; with `new`, raise FileExistsError if there is one already."""
        text = json.dumps(asdict(self)) + "\n"
        if new:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            return
        staged = path.with_suffix(".pid.new")
        staged.write_text(text, encoding="utf-8")
        staged.replace(path)

    def process(self, marker: str) -> psutil.Process | None:
        """Return the process if it is running, None if it ended or its id now belongs to another program.

        The start time tells them apart; if the machine's clock was set since, `marker` among the arguments does.
        """
        try:
            process = psutil.Process(self.pid) if self.pid > 0 else None
            if process is None or process.status() == psutil.STATUS_ZOMBIE:
                return None
            same = abs(process.create_time() - self.started) < 2 or marker in process.cmdline()  # noqa: PLR2004
        except psutil.NoSuchProcess:
            return None
        except psutil.AccessDenied:
            # Another user's process.
            return None
        return process if same else None


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, even while it is written (Windows: as its directory allows)."""
    staged = path.with_name(path.name + ".new")
    staged.unlink(missing_ok=True)
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    staged.replace(path)


def reason(error: OSError) -> str:
    """The system's message for a failure, in lower case."""
    return (error.strerror or str(error)).lower()


# The brokers that this process itself started. They are waited for when they end, or they stay as zombies.
_children: dict[int, subprocess.Popen[bytes]] = {}


def reap(pid: int, timeout_seconds: float) -> None:
    """Wait for a process that `spawn` started and that is ending; for any other, do nothing."""
    if (child := _children.pop(pid, None)) is not None:
        child.wait(timeout_seconds)


def spawn(command: Sequence[str], output: int, directory: Path, environment: Mapping[str, str]) -> int:
    """Run `command` out of reach of this terminal and its Ctrl-C, with `output` as both streams. Returns its id."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        new_session = False
    else:
        flags = 0
        new_session = True
    child = subprocess.Popen(  # noqa: S603 - our own command, no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=directory,
        env=environment,
        creationflags=flags,
        start_new_session=new_session,
    )
    _children[child.pid] = child
    return child.pid
