"""One broker for a test run, however many processes run its tests: starting one costs more than most tests do."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness import new_broker
from patience import until

DIRECTORY = "TEST_SHARED_BROKER"  # in the environment, which the processes of pytest-xdist inherit
PATH = os.pathsep.join(sys.path)


def share() -> Callable[[], None]:
    """Make place for a broker that this process and those which it starts will share; what is returned ends it."""
    if DIRECTORY in os.environ:
        return lambda: None  # whoever made the place ends it
    directory = Path(tempfile.mkdtemp(prefix="test-broker-"))
    os.environ[DIRECTORY] = str(directory)

    def end() -> None:
        del os.environ[DIRECTORY]
        if (directory / "kafka").exists():
            new_broker(directory / "kafka").stop()
        shutil.rmtree(directory)

    return end


def address() -> str:
    """The address of the shared broker, which whoever asks first starts."""
    directory = Path(os.environ[DIRECTORY])
    told, starts = directory / "address", directory / "starts"

    def is_told() -> bool:
        try:
            starts.mkdir()
        except FileExistsError:
            return told.exists()
        try:
            # In a process of its own: Python warns of children that outlive the one that has started them.
            subprocess.run([sys.executable, __file__], check=True, env={**os.environ, "PYTHONPATH": PATH})
        except BaseException:
            starts.rmdir()  # so that the next one tries
            raise
        return told.exists()

    until(is_told, "the broker that another process starts")
    return told.read_text()


def start() -> None:
    """Start it, and tell its address then."""
    directory = Path(os.environ[DIRECTORY])
    broker = new_broker(directory / "kafka")
    broker.start()
    (directory / "starts" / "address").write_text(broker.bootstrap_servers)
    (directory / "starts" / "address").rename(directory / "address")


if __name__ == "__main__":
    start()
