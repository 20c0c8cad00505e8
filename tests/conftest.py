"""What all tests share: a broker for those that need one, names of their own, and configurations."""

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import FakeClock, FakeKafka, FakeStop
from running import Running

from unique_users.local_kafka.broker import LocalKafka, free_port
from unique_users.runtime.log import log_to_stderr


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors, but for one: kafka-python reads its schemas in a way that Python 3.11 calls deprecated."""
    log_to_stderr()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # the scripts would ignore it too, but tests send it to them
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("filterwarnings", r"ignore:(read|open)_text is deprecated:DeprecationWarning")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real broker: TEST_BOOTSTRAP_SERVERS, or one of our own for this session."""
    if given := os.environ.get("TEST_BOOTSTRAP_SERVERS"):
        yield given
        return
    data: Path = tmp_path_factory.mktemp("kafka") / "data"
    with LocalKafka("4.3.1", data, free_port()) as kafka:
        yield kafka.bootstrap_servers


@pytest.fixture
def unique_name() -> Callable[[str], str]:
    """Names for topics and groups that no other test has."""
    return lambda what: f"test-{what}-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def stop(clock: FakeClock) -> FakeStop:
    return FakeStop(clock)


@pytest.fixture
def kafka(clock: FakeClock) -> FakeKafka:
    """A fake broker with the topics of the default configuration, one partition each."""
    kafka = FakeKafka(clock)
    for name in ("feed", "bucketed", "counts", "rejected"):
        kafka.create(name, settings={"max.message.bytes": "8388608"})
    return kafka


@pytest.fixture
def running(broker: str, tmp_path: Path) -> Iterator[Running]:
    """The scripts with topics of their own; whatever still runs at the end is killed."""
    running = Running(broker, tmp_path)
    yield running
    running.end_all()
