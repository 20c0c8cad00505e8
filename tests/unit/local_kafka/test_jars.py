"""Jars come whole and checked, or not at all, and are fetched once."""

import hashlib
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from jgo.maven import MavenContext

from unique_users.local_kafka import jars as kafka_jars
from unique_users.local_kafka.errors import LocalKafkaError
from unique_users.local_kafka.jars import fetch_jars

GOOD = b"a jar"
JAR = Path("org", "example", "thing", "1.0", "thing-1.0.jar")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Maven cache, and a lock file of Kafka 9.9 with one jar."""
    (tmp_path / "kafka-9.9.lock.toml").write_text(
        '[[dependencies]]\ngroupId = "org.example"\nartifactId = "thing"\nversion = "1.0"\npackaging = "jar"\n'
        f'sha256 = "{hashlib.sha256(GOOD).hexdigest()}"\n'
    )
    monkeypatch.setattr(kafka_jars, "CONFIG_DIRECTORY", tmp_path)
    monkeypatch.setenv("M2_REPO", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """A Maven repository on this machine that serves the given bytes as the jar."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            pass

    def put(content: bytes) -> None:
        jar = tmp_path / "remote" / JAR
        jar.parent.mkdir(parents=True, exist_ok=True)
        jar.write_bytes(content)
        jar.with_name(jar.name + ".sha1").write_text(hashlib.sha1(content).hexdigest())

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "remote")))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    remote = {"here": f"http://127.0.0.1:{server.server_port}"}
    monkeypatch.setattr(kafka_jars, "MavenContext", partial(MavenContext, remote_repos=remote))
    monkeypatch.setenv("NO_PROXY", "*")
    yield put
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def files(directory: Path) -> list[Path]:
    return [path.relative_to(directory) for path in directory.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("no_network")
def test_jars_that_are_there_need_no_network(cache: Path) -> None:
    (cache / JAR).parent.mkdir(parents=True)
    (cache / JAR).write_bytes(GOOD)
    assert fetch_jars("9.9") == [cache / JAR]


@pytest.mark.usefixtures("no_network")
def test_a_missing_jar_without_network_is_one_clear_line(cache: Path) -> None:
    with pytest.raises(
        LocalKafkaError, match=r"cannot fetch org\.example:thing:1\.0 .*the first start needs the network"
    ) as caught:
        fetch_jars("9.9")
    assert "\n" not in str(caught.value)
    assert files(cache) == []


def test_a_missing_jar_is_fetched_once_and_said_in_one_line(
    cache: Path, repository: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    repository(GOOD)
    assert fetch_jars("9.9") == [cache / JAR]
    assert files(cache) == [JAR]
    assert (cache / JAR).read_bytes() == GOOD
    assert capsys.readouterr().err == "fetching 1 of 1 jars of Kafka 9.9\n"
    fetch_jars("9.9")
    assert capsys.readouterr().err == ""


def test_a_damaged_jar_in_the_cache_is_replaced(cache: Path, repository: Callable[[bytes], None]) -> None:
    (cache / JAR).parent.mkdir(parents=True)
    (cache / JAR).write_bytes(GOOD[:-1])
    repository(GOOD)
    fetch_jars("9.9")
    assert (cache / JAR).read_bytes() == GOOD


def test_a_download_with_another_checksum_is_refused_and_not_kept(
    cache: Path, repository: Callable[[bytes], None]
) -> None:
    repository(b"another jar")
    with pytest.raises(LocalKafkaError, match=r"org\.example:thing:1\.0: expected SHA-256 .* it was discarded"):
        fetch_jars("9.9")
    assert files(cache) == []


def test_a_version_without_a_lock_file_is_refused(cache: Path) -> None:
    with pytest.raises(LocalKafkaError, match=r"no local Kafka '1\.0': choose one of 9\.9"):
        fetch_jars("1.0")
    assert not cache.exists()
