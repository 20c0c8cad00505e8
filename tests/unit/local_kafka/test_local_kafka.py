"""The local Kafka without a broker: whose process it is, and what stands in its way."""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from unique_users.local_kafka import broker as local_kafka
from unique_users.local_kafka import probe as broker_probe
from unique_users.local_kafka.broker import LocalKafka, free_port, local_address
from unique_users.local_kafka.errors import LocalKafkaError, UsageError
from unique_users.local_kafka.java_process import JavaDaemon, last_complaint
from unique_users.local_kafka.pid_file import PidFile
from unique_users.local_kafka.probe import brokers_known

NO_PROCESS = 2**22 + 1  # above the largest process id of Linux


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def kafka(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> LocalKafka:
    """A local Kafka whose jars are there and whose processes are never started."""
    monkeypatch.setattr(local_kafka, "fetch_jars", lambda _version: [])
    monkeypatch.setattr(LocalKafka, "_start_kraft", lambda _self, _jars: None)
    return LocalKafka("4.3.1", tmp_path / "data", port)


def this_process(address: str = "localhost:9092", *, starting: bool = False) -> PidFile:
    return PidFile(os.getpid(), psutil.Process().create_time(), address, starting)


# Whose process it is


def test_a_pid_file_names_the_process_it_was_written_for(tmp_path: Path) -> None:
    path = tmp_path / "kafka.pid"
    this_process().write(path)
    owner = PidFile.read(path)
    assert owner == this_process()
    assert owner is not None
    process = owner.process("no such argument")
    assert process is not None
    assert process.pid == os.getpid()


def test_a_process_id_that_another_program_got_since_is_not_ours() -> None:
    reused = PidFile(os.getpid(), psutil.Process().create_time() - 3600, "localhost:9092")
    assert reused.process("no such argument") is None


def test_our_process_is_known_by_its_arguments_when_the_clock_was_set() -> None:
    moved = PidFile(os.getpid(), psutil.Process().create_time() - 3600, "localhost:9092")
    assert moved.process(psutil.Process().cmdline()[-1]) is not None


def test_an_ended_process_is_nobody() -> None:
    assert PidFile(NO_PROCESS, 0, "localhost:9092").process("") is None


@pytest.mark.parametrize("text", ["", "12", '{"pid": 1}', "[]", "\x00"])
def test_a_damaged_pid_file_names_nobody(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kafka.pid"
    path.write_text(text)
    owner = PidFile.read(path)
    assert owner is not None
    assert owner.process("") is None


def test_status_says_that_the_broker_was_killed(kafka: LocalKafka) -> None:
    kafka.data.mkdir()
    PidFile(NO_PROCESS, 0, kafka.bootstrap_servers).write(kafka.data / "kafka.pid")
    status = kafka.status()
    assert not status.answers
    assert f"process {NO_PROCESS} was killed or crashed" in status.text


def test_status_of_a_broker_that_never_ran_says_so(kafka: LocalKafka) -> None:
    assert not kafka.status().answers
    assert "not running" in kafka.status().text
    assert not kafka.data.exists()


def test_a_stale_pid_file_is_said_and_removed_and_the_start_goes_on(
    kafka: LocalKafka, capsys: pytest.CaptureFixture[str]
) -> None:
    kafka.data.mkdir()
    PidFile(NO_PROCESS, 0, kafka.bootstrap_servers).write(kafka.data / "kafka.pid")
    assert kafka.start()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "kafka.pid: removed" in lines[0]


def test_a_second_start_during_the_first_is_refused(kafka: LocalKafka) -> None:
    kafka.data.mkdir()
    this_process(kafka.bootstrap_servers, starting=True).write(kafka.data / "kafka.pid")
    for refused in (kafka.start, kafka.stop, kafka.kill):
        with pytest.raises(LocalKafkaError, match=f"being started by process {os.getpid()}"):
            refused()


def test_a_broker_at_another_address_is_not_taken_for_this_one(kafka: LocalKafka) -> None:
    kafka.data.mkdir()
    this_process("localhost:1").write(kafka.data / "kafka.pid")
    with pytest.raises(LocalKafkaError, match=r"runs at localhost:1, not at .*kafka\.bootstrap_servers"):
        kafka.start()


def test_stopping_what_does_not_run_changes_nothing(kafka: LocalKafka) -> None:
    assert not kafka.stop()
    assert not kafka.data.exists()


# What stands in its way


@pytest.mark.parametrize("server", ["localhost:9092", "LOCALHOST:9092", "127.0.0.1:9092", "[::1]:9092"])
def test_one_loopback_address_is_local(server: str) -> None:
    host, port = local_address([server]) or ("", 0)
    assert (host, port) == (server.lower().removesuffix(":9092"), 9092)


def test_several_loopback_addresses_are_those_of_a_local_cluster() -> None:
    assert local_address(["localhost:9092", "localhost:9093"]) == ("localhost", 9092)


@pytest.mark.parametrize(
    "servers",
    [
        ["broker.example:9092"],
        ["10.0.0.1:9092"],
        ["0.0.0.0:9092"],
        ["localhost.example:9092"],
        ["localhost:1", "broker.example:2"],
        [],
    ],
)
def test_any_other_address_is_another_cluster(servers: list[str]) -> None:
    assert local_address(servers) is None


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_a_port_that_cannot_be_is_a_usage_error(port: str) -> None:
    with pytest.raises(UsageError, match=rf"kafka\.bootstrap_servers.*'localhost:{port}'"):
        local_address([f"localhost:{port}"])


def test_a_taken_port_is_named_and_nothing_is_left_behind(kafka: LocalKafka) -> None:
    with socket.create_server(("127.0.0.1", kafka.port)):
        with pytest.raises(LocalKafkaError, match=rf"port {kafka.port} is in use.*kafka\.bootstrap_servers"):
            kafka.start()
        assert "another program" in kafka.status().text
    assert not (kafka.data / "kafka.pid").exists()


def test_a_directory_below_a_missing_one_is_not_made(kafka: LocalKafka, tmp_path: Path) -> None:
    kafka.data = tmp_path / "disk" / "data"
    with pytest.raises(LocalKafkaError, match=r"broker\.data: cannot use .*no such file.*mount its disk"):
        kafka.start()
    assert not (tmp_path / "disk").exists()


def test_a_file_in_the_directorys_place_is_a_clear_error(kafka: LocalKafka) -> None:
    kafka.data.write_text("a file")
    with pytest.raises(LocalKafkaError, match=r"broker\.data: cannot use .*exists"):
        kafka.start()
    assert not kafka.stop()
    assert not kafka.status().answers
    assert kafka.data.read_text() == "a file"


@pytest.mark.skipif(getattr(os, "getuid", lambda: 0)() == 0, reason="rights do not bind this user")
def test_a_directory_without_rights_is_a_clear_error(kafka: LocalKafka) -> None:
    kafka.data.mkdir(mode=0o500)
    with pytest.raises(LocalKafkaError, match=r"broker\.data: cannot use .*permission denied"):
        kafka.start()


def test_a_comma_in_the_path_is_refused(kafka: LocalKafka, tmp_path: Path) -> None:
    kafka.data = tmp_path / "a,b"
    with pytest.raises(UsageError, match=r"broker\.data: .*comma"):
        kafka.start()


def test_data_of_another_version_is_refused(kafka: LocalKafka) -> None:
    assert kafka.start()
    (kafka.data / "kafka.pid").unlink()
    kafka.version = "2.4.0"
    with pytest.raises(LocalKafkaError, match=r"holds data of Kafka 4\.3\.1.*--kafka-version 4\.3\.1"):
        kafka.start()
    assert not (kafka.data / "kafka.pid").exists()


def test_zookeeper_finds_its_directory_made(kafka: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bool] = []

    def spawn(daemon: JavaDaemon, *_arguments: object) -> int:
        made.append((tmp_path / "data" / daemon.name / "version-2").is_dir())
        raise LocalKafkaError("enough")

    monkeypatch.setattr(JavaDaemon, "spawn", spawn)
    old = replace(kafka, version="2.4.0", zookeeper_port=None)
    with pytest.raises(LocalKafkaError, match="enough"):
        old.start()
    assert made == [True]


def test_settings_carry_any_path(kafka: LocalKafka) -> None:
    kafka.data.mkdir()
    daemon = JavaDaemon("kafka", kafka.data)
    daemon.write_settings("kraft.properties", {"log.dirs": "C:\\dä ta"})
    assert daemon.settings_path.read_bytes().rstrip().endswith(rb"log.dirs=C:\\d\u00e4 ta")


# Whether a broker answers


@contextmanager
def answering(port: int, answer: bytes) -> Iterator[None]:
    """Serve one connection with `answer`, whatever it asks."""
    with socket.create_server(("127.0.0.1", port)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(64)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def test_a_free_port_is_none_that_a_program_has(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr(broker_probe, "PORTS", range(port, port + 1))
    assert free_port() == port
    with socket.create_server(("127.0.0.1", port)), pytest.raises(OSError, match=f"no port from {port} to {port}"):
        free_port()


def test_nobody_is_no_broker(port: int) -> None:
    assert not brokers_known("localhost", port)


@pytest.mark.parametrize(
    ("answer", "answers"),
    [
        (struct.pack(">iii", 30, 3, 1) + bytes(22), True),
        (struct.pack(">iii", 30, 3, 0) + bytes(22), False),
        (struct.pack(">iii", 30, 8, 1) + bytes(22), False),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False),
        (b"", False),
    ],
    ids=["a broker", "a cluster without brokers yet", "a stranger", "a web server", "a closed connection"],
)
def test_only_a_cluster_with_a_broker_answers(port: int, answer: bytes, answers: bool) -> None:  # noqa: FBT001
    with answering(port, answer):
        assert bool(brokers_known("127.0.0.1", port)) is answers


def test_the_last_complaint_of_a_log_explains_a_failure() -> None:
    log = b"WARN fine\nERROR Exiting\njava.io.IOException: disk gone\n\tat kafka.Kafka.main\nWARN closing\n"
    assert last_complaint(log) == "java.io.IOException: disk gone"
    assert last_complaint(b"WARN fine\n") == "WARN fine"
    assert last_complaint(b"") == "it wrote no log"
