"""One broker for a test run, however many processes run its tests: starting one costs more than most tests do."""

import atexit
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from harness import new_broker

DIRECTORY = "TEST_SHARED_BROKER"  # in the environment, which the processes of pytest-xdist inherit
START_SECONDS = 120.0


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
    deadline = time.monotonic() + START_SECONDS
    while not told.exists():
        try:
            starts.mkdir()
        except FileExistsError:
            assert time.monotonic() < deadline, "the broker that another process starts is not there"
            time.sleep(0.05)
            continue
        try:
            broker = new_broker(directory / "kafka")
            broker.start()
            atexit.register(warnings.simplefilter, "ignore", ResourceWarning)  # of a child that outlives this process
            (starts / "address").write_text(broker.bootstrap_servers)
            (starts / "address").rename(told)
        except BaseException:
            starts.rmdir()  # so that the next one tries
            raise
    return told.read_text()
