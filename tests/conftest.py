"""What all tests share: a broker for those that need one, names of their own, and configurations."""

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import shared_broker
from contract_systems import FakeSystem, KafkaPythonSystem, LibrdkafkaSystem, Names, System
from fake_bucketer import Feed
from fake_counter import Counter
from fakes import FakeClock, FakeKafka, FakeStop
from hypothesis import HealthCheck, settings
from running import Running

from unique_users.config.schema import Topic
from unique_users.errors import BrokerAwayError
from unique_users.runtime.log import log_to_stderr

pytest_plugins = ["browsing"]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(NamesFailures(config))
    config.add_cleanup(shared_broker.share())
    log_to_stderr()
    no_clock = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("however slow the machine is", no_clock)
    settings.load_profile("however slow the machine is")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # the scripts would ignore it too, but tests send it to them
        signal.signal(signal.SIGINT, signal.default_int_handler)


class NamesFailures:
    """Names what fails at once, beside the dots; the traces come at the end, as always."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            crash = getattr(report.longrepr, "reprcrash", None)
            terminal.write_line("")
            terminal.write_line(f"FAILED {report.nodeid}: {str(getattr(crash, 'message', '')).partition(chr(10))[0]}")


def pytest_runtest_setup() -> None:
    """Log plain lines again, whatever a test before has set by running a script in this process."""
    log_to_stderr()


@pytest.fixture(scope="session")
def broker() -> str:
    """The address of a real broker: TEST_BOOTSTRAP_SERVERS, or one of our own for the whole run."""
    return os.environ.get("TEST_BOOTSTRAP_SERVERS") or shared_broker.address()


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


@pytest.fixture
def feed(kafka: FakeKafka, stop: FakeStop) -> Feed:
    """A bucketer that has its partition and waits for frames."""
    feed = Feed(kafka, stop)
    feed.step()
    return feed


@pytest.fixture
def counter(kafka: FakeKafka, stop: FakeStop, tmp_path: Path) -> Iterator[Counter]:
    """A counter that has its partition and waits for records; killed at the end, whatever became of it."""
    counter = Counter(kafka, tmp_path / "state", stop)
    counter.step()
    yield counter
    counter.crash()


@pytest.fixture(params=["fake", "kafka-python", "librdkafka"])
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    system: System
    if request.param == "fake":
        system = FakeSystem()
    else:
        make = {"kafka-python": KafkaPythonSystem, "librdkafka": LibrdkafkaSystem}[request.param]
        system = make(request.getfixturevalue("broker"))
    yield system
    system.close()


@pytest.fixture
def new_topic(system: System, unique_name: Names) -> Iterator[Callable[..., str]]:
    """Makes topics with names of their own, and deletes them afterwards."""
    names: list[str] = []

    def new_topic(partitions: int = 1, **settings: str | int) -> str:
        names.append(unique_name("topic"))
        admin = system.admin()
        admin.create(Topic(name=names[-1], partitions=partitions, settings=dict(settings)))
        admin.close()
        return names[-1]

    yield new_topic
    system.come_back()
    with suppress(BrokerAwayError):
        system.admin().delete(names)
