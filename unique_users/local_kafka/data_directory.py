"""The data directory of a local Kafka: its version, the identity of its storage, and the system's errors in it."""

import base64
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from unique_users.local_kafka.errors import LocalKafkaError, UsageError
from unique_users.local_kafka.jars import java_command, java_environment
from unique_users.local_kafka.java_process import START_SECONDS, JavaDaemon, last_complaint
from unique_users.local_kafka.pid_file import reason, write_private
from unique_users.local_kafka.security import Security


def check_data(data: Path, version: str) -> None:
    """Create the directory and record its version.

    Raises UsageError for a path that Kafka cannot use, LocalKafkaError for a directory of another version.
    """
    if "," in str(data):
        raise UsageError(f"broker.data: Kafka cannot use a directory with a comma in its path: {str(data)!r}")
    # Never its parents: an unmounted disk must not become a directory.
    data.mkdir(exist_ok=True)
    JavaDaemon("kafka", data).log_path.parent.mkdir(exist_ok=True)
    found = data_version(data)
    if found is None:
        _version_path(data).write_text(f"{version}\n", encoding="utf-8")
    elif found != version:
        raise LocalKafkaError(
            f"broker.data: {str(data)!r} holds data of Kafka {found}, which {version} cannot use:"
            f" start with --kafka-version {found}, or name another directory with --set broker.data=DIRECTORY"
        )


def _version_path(data: Path) -> Path:
    return data / "kafka-version"


def data_version(data: Path) -> str | None:
    """The version of Kafka that the directory belongs to, or None for a new one."""
    try:
        return _version_path(data).read_text(encoding="utf-8").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None


def format_storage(data: Path, jars: Sequence[Path], cluster_id: str, heap: str, security: Security | None) -> None:
    """Give new storage its identity, and a secured one its users; Kafka does not start without it."""
    if (data / "kafka" / "meta.properties").exists():
        return
    settings = str(JavaDaemon("kafka", data).settings_path)
    arguments = ["format", "--ignore-formatted", f"--cluster-id={cluster_id}", "-c", settings]
    if security is not None:
        arguments += security.format_arguments()
    java, *options = java_command(jars, "kafka.tools.StorageTool", arguments, heap, quick=True)
    # In a file: anybody can read a command line, so it must not hold passwords.
    file = data / "format.arguments"
    write_private(file, "\n".join(f'"{_quoted(option)}"' for option in options))
    try:
        done = subprocess.run(  # noqa: S603 - our own command, no shell
            [java, f"@{file}"], capture_output=True, check=False, env=java_environment(), timeout=START_SECONDS
        )
        failure = last_complaint(done.stderr or done.stdout) if done.returncode else None
    except subprocess.TimeoutExpired:
        failure = f"not done after {START_SECONDS} s"
    finally:
        file.unlink()
    if failure is not None:
        raise LocalKafkaError(f"cannot format {str(data)!r}: {failure}")


def _quoted(option: str) -> str:
    """Escape an option for Java's argument files."""
    return option.replace("\\", "\\\\").replace('"', '\\"')


def new_cluster_id() -> str:
    """An identity for new storage, as Kafka writes it."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


@contextmanager
def explained(data: Path) -> Iterator[None]:
    """Turn the system's errors in the directory `data` into a user error."""
    try:
        yield
    except OSError as error:
        raise LocalKafkaError(
            f"broker.data: cannot use {str(error.filename or data)!r}: {reason(error)}: free some space,"
            " fix its permissions, create its parent or mount its disk, or name another directory"
        ) from None
    except psutil.Error as error:
        raise LocalKafkaError(
            f"Kafka's process in {str(data)!r} cannot be stopped: {error}: does it belong to another user?"
        ) from None
