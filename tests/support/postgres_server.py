"""A PostgreSQL of its own for a test, from Debian's packages. It can be killed and started again."""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import psycopg
from patience import LIMIT_SECONDS, until

from unique_users.local_kafka.probe import free_port

PASSWORD = "a-postgres-password"


def programs() -> Path | None:
    """The directory with the server's programs, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


class PostgresServer:
    """A server at a loopback port, with a user `export` who has a password. A context manager."""

    def __init__(self) -> None:
        self.port = free_port()
        # Not in pytest's directories: those are for their owner alone, and the server runs as another user.
        self._directory = Path(tempfile.mkdtemp(prefix="unique-users-postgres-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        self._as_user: list[str] = []
        if os.name == "posix" and os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self._directory, user.pw_uid, user.pw_gid)
            self._as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        password = self._directory / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run("initdb", "--pgdata", self.data, "--username=export", f"--pwfile={password}", "--auth=scram-sha-256")

    @property
    def data(self) -> str:
        return str(self._directory / "data")

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to find it by libpq's own names."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": "export",
            "PGPASSWORD": PASSWORD,
            "PGDATABASE": "postgres",
        }

    def start(self) -> None:
        """Start it, and wait until it answers."""
        flags = ["-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-k", str(self._directory)]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as_user, self._program("postgres"), "-D", self.data, *flags],
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=self._directory,
            )
        log_path, process = self._directory / "log", self._process
        until(self._answers, lambda: f"an answer: {log_path.read_text()}", give_up=lambda: process.poll() is not None)

    def _answers(self) -> bool:
        try:
            return bool(self.rows("SELECT 1"))
        except psycopg.OperationalError:
            return False

    def kill(self) -> None:
        """Kill it and all of its processes with -9."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        everyone = [server, *server.children(recursive=True)]
        for process in everyone:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(LIMIT_SECONDS)
        psutil.wait_procs(everyone, LIMIT_SECONDS)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """The answer to a statement, on a connection of its own."""
        environment = self.environment
        with psycopg.connect(
            host=environment["PGHOST"],
            port=self.port,
            user=environment["PGUSER"],
            password=PASSWORD,
            dbname=environment["PGDATABASE"],
            autocommit=True,
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _program(self, name: str) -> str:
        directory = programs()
        assert directory is not None
        return str(directory / name)

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [*self._as_user, self._program(name), *arguments],
            check=True,
            capture_output=True,
            cwd=self._directory,
            timeout=LIMIT_SECONDS,
        )
