"""broker.py as a person runs it: a real Kafka of each version, in a directory and on a port of its own."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from repository import command

from unique_users.local_kafka.broker import LocalKafka, free_port
from unique_users.local_kafka.errors import LocalKafkaError
from unique_users.local_kafka.pid_file import PidFile

SECONDS_MAX = 90


@dataclass
class Broker:
    """broker.py with its own data directory and port."""

    directory: Path
    version: str = "4.3.1"

    def __post_init__(self) -> None:
        self.data = self.directory / "data"
        self.servers = f"localhost:{free_port()}"
        self.config = self.directory / "config.yaml"
        self.config.write_text(
            f"kafka: {{bootstrap_servers: '{self.servers}'}}\n"
            f"broker: {{version: {self.version}, data: '{self.data.as_posix()}'}}\n"
        )

    def run(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        line = [*command("broker"), "--config", str(self.config), *arguments]
        return subprocess.run(
            line, input=text, capture_output=True, text=True, timeout=SECONDS_MAX, cwd=self.directory, check=False
        )

    def started(self) -> "Broker":
        done = self.run("start")
        assert done.returncode == 0, done.stderr
        return self

    def process(self, name: str = "kafka") -> psutil.Process:
        owner = PidFile.read(self.data / f"{name}.pid")
        assert owner is not None
        return psutil.Process(owner.pid)

    def kill(self) -> None:
        """End what this broker left running, found by its directory among the arguments."""
        for process in psutil.process_iter(["cmdline"]):
            if any(argument.startswith(str(self.data)) for argument in process.info["cmdline"] or ()):
                process.kill()
                process.wait(SECONDS_MAX)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Broker]]:
    """Give a function that makes brokers; what they leave running is killed."""
    brokers: list[Broker] = []

    def new(version: str = "4.3.1") -> Broker:
        brokers.append(Broker(tmp_path_factory.mktemp("broker"), version))
        return brokers[-1]

    yield new
    for broker in brokers:
        broker.kill()


@pytest.fixture(scope="module")
def running(make: Callable[..., Broker]) -> Broker:
    return make().started()


def test_a_started_broker_answers_and_status_says_where(running: Broker) -> None:
    status = running.run("status")
    assert status.returncode == 0
    assert f"Kafka 4.3.1 runs at {running.servers}" in status.stdout


def test_starting_twice_says_that_it_is_there(running: Broker) -> None:
    process = running.process()
    again = running.run("start")
    assert again.returncode == 0
    assert "already there" in again.stderr
    assert running.process() == process


def test_its_log_holds_nothing_but_warnings(running: Broker) -> None:
    log = (running.data / "logs" / "kafka.log").read_text()
    assert " INFO " not in log
    assert " ERROR " not in log


def test_the_other_version_is_refused_on_the_same_data(running: Broker) -> None:
    refused = running.run("start", "--kafka-version", "2.4.0")
    assert refused.returncode == 1
    assert "--kafka-version 4.3.1" in refused.stderr
    assert running.run("status").returncode == 0


def test_kafkas_own_tools_run_against_it(running: Broker) -> None:
    created = running.run("tool", "kafka-topics", "--create", "--topic", "words", "--partitions", "2")
    assert created.returncode == 0, created.stderr
    produced = running.run("tool", "kafka-console-producer", "--topic", "words", text="one\ntwo\nthree\n")
    assert produced.returncode == 0, produced.stderr
    words = ("--topic", "words", "--from-beginning", "--max-messages", "3")
    consumed = running.run("tool", "kafka-console-consumer", *words)
    assert sorted(consumed.stdout.split()) == ["one", "three", "two"]


def test_a_tool_that_fails_passes_its_exit_code_on(running: Broker) -> None:
    failed = running.run("tool", "kafka-topics", "--describe", "--topic", "no-such-topic")
    assert failed.returncode == 1


def test_a_tool_of_another_version_is_wrong_usage(running: Broker) -> None:
    wrong = running.run("tool", "--kafka-version", "2.4.0", "kafka-metadata-quorum", "describe")
    assert wrong.returncode == 2
    assert "Kafka 2.4.0 has no tool 'kafka-metadata-quorum'" in wrong.stderr
    assert "kafka-topics" in wrong.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no signals for one process")
def test_a_terminated_tool_leaves_nothing_running(running: Broker) -> None:
    topic = ("kafka-verifiable-consumer", "--topic", "no-such", "--group-id", "g")
    line = [*command("broker"), "--config", str(running.config), "tool", *topic]
    script = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with script:
        assert script.stdout is not None
        assert "startup_complete" in script.stdout.readline()
        children = psutil.Process(script.pid).children()
        script.terminate()
        assert script.wait(SECONDS_MAX) == 0
    assert children
    assert not any(child.is_running() for child in children)


def test_a_taken_port_is_named_and_the_other_program_is_left_alone(
    make: Callable[..., Broker], running: Broker
) -> None:
    second = make()
    refused = second.run("start", "--set", f"kafka.bootstrap_servers={running.servers}")
    assert refused.returncode == 1
    assert f"port {running.servers.rpartition(':')[2]} is in use" in refused.stderr
    assert "kafka.bootstrap_servers" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert running.run("status").returncode == 0


def test_another_cluster_is_never_touched(make: Callable[..., Broker]) -> None:
    broker = make()
    for name in ("start", "status", "stop"):
        done = broker.run(name, "--set", "kafka.bootstrap_servers=broker.example:9092")
        assert done.returncode == 0
        assert len(done.stderr.splitlines()) == 1
        assert "the local Kafka is left alone" in done.stderr
    assert not broker.data.exists()


def test_a_killed_broker_is_noticed_and_starts_again_with_its_data(running: Broker) -> None:
    created = running.run("tool", "kafka-topics", "--create", "--topic", "kept")
    assert created.returncode == 0, created.stderr
    killed = running.process()
    killed.kill()
    killed.wait(SECONDS_MAX)
    status = running.run("status")
    assert status.returncode == 1
    assert f"process {killed.pid} was killed or crashed" in status.stdout

    again = running.run("start")
    assert again.returncode == 0, again.stderr
    assert "kafka.pid: removed" in again.stderr
    assert "kept" in running.run("tool", "kafka-topics", "--list").stdout.split()


def test_a_stopped_broker_is_gone_and_stopping_again_is_no_error(running: Broker) -> None:
    process = running.process()
    stopped = running.run("stop")
    assert stopped.returncode == 0, stopped.stderr
    assert not process.is_running()
    assert not (running.data / "kafka.pid").exists()
    assert running.run("status").returncode == 1
    again = running.run("stop")
    assert again.returncode == 0
    assert "was not running" in again.stderr


def test_a_broker_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    kafka = LocalKafka("4.3.1", tmp_path / "data", free_port(), properties={"num.io.threads": "many"})
    with pytest.raises(LocalKafkaError, match=r"many.*num\.io\.threads"):
        kafka.start()
    assert not (kafka.data / "kafka.pid").exists()
    assert kafka.pid is None


@pytest.mark.slow
def test_three_nodes_are_one_cluster_and_stop_together(make: Callable[..., Broker]) -> None:
    broker = make()
    started = broker.run("start", "--nodes", "3")
    assert started.returncode == 0, started.stderr
    servers = broker.run("status").stdout.split(" runs at ")[1].split(" ")[0].split(",")
    assert servers[0] == broker.servers
    assert len(servers) == 3
    node = PidFile.read(broker.data / "node-2" / "kafka.pid")
    assert node is not None
    psutil.Process(node.pid).kill()
    broken = broker.run("status")
    assert broken.returncode == 1
    assert f"1 of 3 nodes cannot be used: node 2: Kafka is not running: its process {node.pid}" in broken.stdout
    assert broker.run("stop").returncode == 0
    assert not list(broker.data.glob("*/kafka.pid"))


@pytest.mark.slow
def test_kafka_2_4_starts_with_its_zookeeper_and_survives_a_kill(make: Callable[..., Broker]) -> None:
    broker = make("2.4.0").started()
    created = broker.run("tool", "kafka-topics", "--create", "--topic", "old")
    assert created.returncode == 0, created.stderr
    produced = broker.run("tool", "kafka-console-producer", "--topic", "old", text="word\n")
    assert produced.returncode == 0, produced.stderr

    killed = broker.process()
    killed.kill()
    killed.wait(SECONDS_MAX)
    assert broker.run("status").returncode == 1
    broker.started()
    consumed = broker.run("tool", "kafka-console-consumer", "--topic", "old", "--from-beginning", "--max-messages", "1")
    assert consumed.stdout.split() == ["word"]

    processes = [broker.process(), broker.process("zookeeper")]
    assert broker.run("stop").returncode == 0
    assert not any(process.is_running() for process in processes)
