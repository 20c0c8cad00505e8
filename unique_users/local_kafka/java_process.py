"""A Java program of a local Kafka that outlives its starter: its pid file, its settings, its log."""

import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from unique_users.local_kafka.errors import LocalKafkaError
from unique_users.local_kafka.jars import CONFIG_DIRECTORY, java_command, java_environment
from unique_users.local_kafka.pid_file import PidFile, reap, spawn, write_private

_log = logging.getLogger(__name__)

START_SECONDS = 60
STOP_SECONDS = 30
LOG_BYTES_MAX = 16 * 1024 * 1024
MAIN_CLASSES = {"kafka": "kafka.Kafka", "zookeeper": "org.apache.zookeeper.server.quorum.QuorumPeerMain"}
TITLES = {"kafka": "Kafka", "zookeeper": "ZooKeeper"}


@dataclass(frozen=True)
class JavaDaemon:
    """The program `name`, kafka or zookeeper, of the data directory `data`."""

    name: str
    data: Path

    @property
    def pid_path(self) -> Path:
        """The file that says which process runs it."""
        return self.data / f"{self.name}.pid"

    @property
    def settings_path(self) -> Path:
        """The settings in effect."""
        return self.data / f"{self.name}.properties"

    @property
    def log_path(self) -> Path:
        """Its output."""
        return self.data / "logs" / f"{self.name}.log"

    def owner(self) -> PidFile | None:
        """The process that its pid file names, or None without one."""
        return PidFile.read(self.pid_path)

    def process(self) -> psutil.Process | None:
        """Its process, or None if it is not running."""
        owner = self.owner()
        return None if owner is None else owner.process(str(self.settings_path))

    def write_settings(self, base: str, settings: Mapping[str, str]) -> None:
        """Write the file `base` of kafka-config/, overridden by `settings`, readable only by its owner."""
        lines = [f"{key}={_escaped(value)}" for key, value in settings.items()]
        text = (CONFIG_DIRECTORY / base).read_text(encoding="utf-8")
        write_private(self.settings_path, "\n".join([text, "# Set at startup by `unique-users broker`.", *lines, ""]))

    def claim(self, address: str) -> bool:
        """Put this process in its place until it is spawned. Returns False if another process is already there."""
        own = PidFile(os.getpid(), psutil.Process().create_time(), address, starting=True)
        try:
            own.write(self.pid_path, new=True)
        except FileExistsError:
            return False
        return True

    def spawn(self, jars: Sequence[Path], heap: str, address: str, options: Sequence[str] = ()) -> int:
        """Start it out of reach of this terminal, with `options` of Java. Returns the size of its log before that."""
        command = java_command(jars, MAIN_CLASSES[self.name], [str(self.settings_path)], heap, options=options)
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES_MAX:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        with self.log_path.open("ab") as output:
            offset = output.tell()
            pid = spawn(command, output.fileno(), self.data, java_environment())
        PidFile(pid, psutil.Process(pid).create_time(), address).write(self.pid_path)
        return offset

    def check_alive(self, deadline: float, offset: int) -> None:
        """Raise LocalKafkaError with the last complaint in the log after `offset`, if it ended or the time is up."""
        title = TITLES[self.name]
        if self.process() is None:
            failure = f"{title} ended at its start"
        elif time.monotonic() > deadline:
            failure = f"{title} did not answer within {START_SECONDS} s"
        else:
            return
        last = last_complaint(self.log_since(offset).encode())
        raise LocalKafkaError(f"{failure}: {last} (more in {shown(self.log_path)})")

    def log_since(self, offset: int) -> str:
        """Its log after the first `offset` bytes."""
        with self.log_path.open("rb") as file:
            file.seek(offset)
            return file.read(LOG_BYTES_MAX).decode("utf-8", "replace")

    def remove_stale(self, owner: PidFile) -> None:
        """Remove the pid file that a crash left behind, and say so."""
        _log.info(f"{shown(self.pid_path)}: removed, its process {owner.pid} was killed or crashed")
        self.pid_path.unlink(missing_ok=True)

    def end(self, *, by_force: bool) -> bool:
        """Stop it, by force after 30 s at the latest, and remove its pid file. Returns whether it was running."""
        if (owner := self.owner()) is None:
            return False
        process = self.process()
        if process is not None and process.pid != os.getpid():
            (process.kill if by_force else process.terminate)()
            try:
                process.wait(STOP_SECONDS)
            except psutil.TimeoutExpired:
                _log.info(f"{self.name} did not stop within {STOP_SECONDS} s: killed")
                process.kill()
                process.wait(STOP_SECONDS)
        reap(owner.pid, STOP_SECONDS)
        self.pid_path.unlink(missing_ok=True)
        return process is not None

    def kill(self) -> None:
        """End it as `kill -9` does. The pid file stays, as it does after a crash."""
        if (process := self.process()) is not None:
            process.kill()
            process.wait(STOP_SECONDS)
            reap(process.pid, STOP_SECONDS)


def shown(path: Path) -> str:
    """A path as a person in this directory would write it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _escaped(value: str) -> str:
    """Write a value for Java's properties, which are Latin-1 with backslash escapes, like JSON's."""
    return json.dumps(value)[1:-1]


_COMPLAINT = re.compile(r"ERROR|FATAL|Exception|Error")


def last_complaint(log: bytes) -> str:
    """The last complaint in a log, else its last line."""
    lines = [line.strip() for line in log.decode("utf-8", "replace").splitlines() if line.strip()]
    complaints = [line for line in lines if _COMPLAINT.search(line) and not line.startswith("at ")]
    return (complaints or lines or ["it wrote no log"])[-1]
