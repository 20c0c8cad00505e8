"""The faults that alerts are held against, each injected for real, and what is to fire."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from subprocess import run
from threading import Event, Thread
from typing import Any, NamedTuple, Self

from confluent_kafka import Producer
from harness import new_broker
from observed import Observed, Stream
from prometheus import JOB, RULES, Prometheus, until, with_for_scaled
from rows_security import WRONG_PASSWORD, secured_broker

from unique_users.metrics import Process
from unique_users.metrics.declared import ALL

FRAMES_A_SECOND = 20.0
PARTITIONS = 3
EVERY = "5s"  # Prometheus scrapes and evaluates
DISK = "1500m"  # of the state, where it is to become full
MB_SECONDS = 0.01  # as fast as a disk: this one is in memory, and would be full between two scrapes
NO_NAME = "no-such-broker.invalid:9092"
RESTART_SECONDS = 5.0  # as RestartSec of the unit in docs/operations.md
QUIET_SECONDS = 30.0
TRANSACTION_MS = 900_000


class Scene:
    """A broker, the four processes, a stream and a Prometheus, all its own. A context manager."""

    def __init__(self, directory: Path, for_scale: float, *, secured: bool, small_disk: bool) -> None:
        self.stream = Stream(lambda: FRAMES_A_SECOND)
        self.over = Event()
        self.faulty: list[str] = []  # settings of the process that is at fault, if they are
        self.held: list[Any] = []
        self._stack = ExitStack()
        self._directory = directory
        directory.mkdir(parents=True)
        state = directory / "state"
        if small_disk:
            self._mount(state)
        door = secured_broker(directory / "kafka") if secured else None
        self.kafka = door.kafka if door else new_broker(directory / "kafka")
        self.secured_as = door.settings if door else None
        self._stack.enter_context(self.kafka)
        settings: dict[str, dict[str, Any]] = {
            "topics": {"feed": {"partitions": PARTITIONS}},
            "state": {"directory": str(state)},
        }
        address = door.open_address if door else self.kafka.bootstrap_servers
        self.observed = self._stack.enter_context(Observed(directory / "system", address, settings))
        self.observed.start_all(self.stream)
        targets = {JOB.format(process): port for process, port in self.observed.ports.items()}
        rules = with_for_scaled(RULES.read_text(encoding="utf-8"), for_scale)
        self.prometheus = self._stack.enter_context(Prometheus(directory / "prometheus", targets, rules, every=EVERY))
        until(lambda: len(self.prometheus.query("up == 1")) == len(ALL), "all to be scraped")
        time.sleep(QUIET_SECONDS)

    def _mount(self, state: Path) -> None:
        state.mkdir()
        run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(state)], check=True)
        self._stack.callback(run, ["umount", "--lazy", str(state)], check=True)

    def restart(self, process: Process, *settings: str) -> None:
        """Ask a process to end, and start it again."""
        self.observed.workers[process].end()
        self.observed.start(process, settings=settings)

    def keep_starting(self, process: Process, *settings: str) -> None:
        """Do as a supervisor does: whenever it has ended, start it again."""

        def supervise() -> None:
            while not self.over.wait(RESTART_SECONDS):
                if not self.observed.workers[process].alive:
                    self.observed.start(process, settings=settings)

        thread = Thread(target=supervise, daemon=True)
        thread.start()
        self._stack.callback(thread.join)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.over.set()
        self.stream.end()
        if self.kafka.pid:
            os.kill(self.kafka.pid, signal.SIGCONT)
        self._stack.close()


def broker_killed(scene: Scene) -> None:
    scene.kafka.kill()


def broker_frozen(scene: Scene) -> None:
    assert scene.kafka.pid
    os.kill(scene.kafka.pid, signal.SIGSTOP)


def bucketer_killed(scene: Scene) -> None:
    scene.observed.workers["bucketer"].kill()


def counter_frozen(scene: Scene) -> None:
    scene.observed.workers["counter"].freeze()


def feed_silent(scene: Scene) -> None:
    scene.stream.rate = lambda: 0.0


def bad_frames(scene: Scene) -> None:
    scene.stream.bad = 0.2


def disk_full(scene: Scene) -> None:
    state = Path(scene.observed.system.config.state.directory)
    with (state / "something else").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
            time.sleep(MB_SECONDS)


def partition_stuck(scene: Scene) -> None:
    """Begin a transaction in one partition and do not finish it: nobody can read what comes after."""
    config = scene.observed.system.config
    producer = Producer(
        {
            "bootstrap.servers": scene.kafka.bootstrap_servers,
            "transactional.id": "never finished",
            "transaction.timeout.ms": TRANSACTION_MS,
        }
    )
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(config.topics.feed.name, b'{"uid": "in a transaction", "ts": 1700000000}', partition=1)
    producer.flush()
    scene.held.append(producer)


def no_name(scene: Scene) -> None:
    scene.faulty = [f"kafka.bootstrap_servers={NO_NAME}"]
    scene.restart("bucketer", *scene.faulty)


def wrong_password(scene: Scene) -> None:
    assert scene.secured_as
    scene.faulty = scene.secured_as("bucketer", sasl_plain_password=WRONG_PASSWORD)
    scene.restart("bucketer", *scene.faulty)
    scene.keep_starting("bucketer", *scene.faulty)


def nothing_wrong(scene: Scene) -> None:
    """What happens on a good day: each process and the broker is restarted, and another bucketer comes and goes."""
    for process in ("bucketer", "counter", "dashboard"):
        scene.restart(process)
        time.sleep(QUIET_SECONDS)
    second = scene.observed.system.start("bucketer")
    time.sleep(QUIET_SECONDS)
    second.end()
    scene.kafka.stop()
    scene.kafka.start()
    time.sleep(QUIET_SECONDS)


class Case(NamedTuple):
    """A fault, what must fire, what may fire as well because it is true, too; `tells`: whose words are noted."""

    fault: str
    inject: Callable[[Scene], None]
    tells: Process
    fires: frozenset[str]
    also: frozenset[str] = frozenset()
    secured: bool = False
    small_disk: bool = False


def _alerts(*names: str) -> frozenset[str]:
    return frozenset(f"UniqueUsers{name}" for name in names)


CASES = (
    Case("broker killed", broker_killed, "bucketer", _alerts("BrokerSilent")),
    Case("broker frozen (SIGSTOP)", broker_frozen, "bucketer", _alerts("BrokerSilent")),
    Case("bucketer killed", bucketer_killed, "counter", _alerts("BucketerDown")),
    Case("counter frozen (SIGSTOP)", counter_frozen, "counter", _alerts("CounterDown")),
    Case("feed silent", feed_silent, "bucketer", _alerts("FeedSilent")),
    Case("20 % bad frames", bad_frames, "bucketer", _alerts("FramesRejected")),
    Case("state disk full", disk_full, "counter", _alerts("StateDiskFull"), _alerts("CounterDown"), small_disk=True),
    Case("one partition of `feed` stuck in a transaction", partition_stuck, "bucketer", _alerts("PartitionStuck")),
    Case("the bucketer's broker name does not resolve", no_name, "bucketer", _alerts("ProcessWithoutBroker")),
    Case("the bucketer's password is wrong", wrong_password, "bucketer", _alerts("BucketerDown"), secured=True),
    Case("nothing: restarts of each process and of the broker, a rebalance", nothing_wrong, "counter", frozenset()),
)
