"""A local cluster and a secured broker without a process: what they are made of, and what they refuse."""

import os
import socket
import stat
from pathlib import Path

import pytest
import yaml

from unique_users.local_kafka import cluster as module
from unique_users.local_kafka.broker import LocalKafka
from unique_users.local_kafka.cluster import Addresses, LocalCluster, local_kafka
from unique_users.local_kafka.errors import LocalKafkaError, UsageError
from unique_users.local_kafka.probe import free_port
from unique_users.local_kafka.security import USERS, Security


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_the_nodes_after_the_first_get_the_free_ports_that_follow(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "listens", lambda _host, port: port == 9093)
    cluster = LocalCluster("4.3.1", data, 9092, 3)
    assert cluster.bootstrap_servers == "localhost:9092,localhost:9094,localhost:9095"
    assert [node.bootstrap_servers for node in cluster.nodes] == cluster.bootstrap_servers.split(",")


def test_every_node_knows_all_controllers_and_is_one_of_them(data: Path) -> None:
    members = [node.membership for node in LocalCluster("4.3.1", data, free_port(), 3).nodes]
    assert [member.node for member in members if member] == [1, 2, 3]
    assert len({tuple(member.controllers) for member in members if member}) == 1
    assert len({member.cluster_id for member in members if member}) == 1
    assert len(set(members[0].controllers if members[0] else ())) == 3


def test_kafkas_own_topics_have_a_copy_on_each_of_three_nodes(data: Path) -> None:
    properties = LocalCluster("4.3.1", data, free_port(), 3).nodes[0].properties
    assert properties["offsets.topic.replication.factor"] == "3"
    assert properties["default.replication.factor"] == "3"


def test_a_cluster_is_found_again_by_its_directory(data: Path) -> None:
    data.mkdir()
    layout = Addresses.new("localhost", free_port(), 3, "id")
    layout.write(data)
    found = local_kafka("4.3.1", data, ("localhost", 9092))
    assert isinstance(found, LocalCluster)
    assert found.bootstrap_servers == ",".join(layout.brokers)
    assert not found.status().answers
    assert "3 of 3 nodes cannot be used" in found.status().text
    assert not found.stop()


def test_a_damaged_layout_says_what_to_do(data: Path) -> None:
    data.mkdir()
    (data / "cluster.json").write_text('{"brokers": 3')
    with pytest.raises(LocalKafkaError, match=r"cluster\.json: damaged: .*broker\.data=DIRECTORY"):
        local_kafka("4.3.1", data, ("localhost", 9092))


@pytest.mark.parametrize(("nodes", "secure", "made"), [(3, False, "1 node"), (None, True, "no security")])
def test_a_directory_stays_what_it_was_made_as(data: Path, nodes: int | None, secure: bool, made: str) -> None:  # noqa: FBT001
    data.mkdir()
    (data / "kafka-version").write_text("4.3.1\n")
    with pytest.raises(LocalKafkaError, match=rf"was made with {made}: .*broker\.data=DIRECTORY"):
        local_kafka("4.3.1", data, ("localhost", 9092), nodes, secure=secure)
    assert isinstance(local_kafka("4.3.1", data, ("localhost", 9092)), LocalKafka)


@pytest.mark.parametrize(("nodes", "secure"), [(3, False), (None, True)])
def test_old_kafka_is_neither_a_cluster_nor_secured(data: Path, nodes: int | None, secure: bool) -> None:  # noqa: FBT001
    with pytest.raises(UsageError, match=r"need Kafka 4"):
        local_kafka("2.4.0", data, ("localhost", 9092), nodes, secure=secure)


def test_no_free_port_is_a_clear_error() -> None:
    with pytest.raises(LocalKafkaError, match="no free port after 65535"):
        Addresses.new("localhost", 65535, 2, "id")


# Security


@pytest.fixture
def security(data: Path) -> Security:
    data.mkdir()
    security = Security(data / "secure")
    security.make("localhost:9092", data, {"KAFKA_PASSWORD_COUNTER": "a-known-password"})
    return security


def test_a_secured_directory_stays_secured(data: Path, security: Security) -> None:
    assert security.exists
    found = local_kafka("4.3.1", data, ("localhost", 9092))
    assert isinstance(found, LocalKafka)
    assert found.security == security


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_secrets_can_be_read_by_their_owner_alone(security: Security) -> None:
    assert stat.S_IMODE(security.directory.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in security.directory.iterdir()}
    assert modes.pop("ca.pem") & 0o400
    assert set(modes.values()) == {0o600}


def password(security: Security, user: str) -> str:
    return str(yaml.safe_load(security.config(user).read_text())["kafka"]["sasl_plain_password"])


def test_a_password_comes_from_the_environment_or_is_random(security: Security, tmp_path: Path) -> None:
    assert password(security, "counter") == "a-known-password"
    other = Security(tmp_path / "other")
    other.make("localhost:9092", tmp_path, {})
    passwords = [password(each, user) for each in (security, other) for user in USERS]
    assert len(set(passwords)) == len(passwords)
    assert all(len(text) >= 16 for text in passwords)


def test_making_it_again_keeps_passwords_and_certificates(security: Security, data: Path) -> None:
    before = {path.name: path.read_bytes() for path in security.directory.iterdir()}
    security.make("localhost:9092", data, {"KAFKA_PASSWORD_COUNTER": "another-password"})
    assert {path.name: path.read_bytes() for path in security.directory.iterdir()} == before


@pytest.mark.parametrize("text", ["short", 'quo"te-1234', "semi;colon1", "", "with space 1"])
def test_a_password_that_settings_cannot_hold_is_refused_and_not_printed(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"KAFKA_PASSWORD_ADMIN: expected 8 to 128 letters") as refused:
        Security(tmp_path / "secure").make("localhost:9092", tmp_path, {"KAFKA_PASSWORD_ADMIN": text})
    assert not text or text not in str(refused.value)
    assert not (tmp_path / "secure").exists()


def test_a_security_with_a_file_gone_is_a_clear_error(security: Security) -> None:
    security.config("bucketer").unlink()
    with pytest.raises(LocalKafkaError, match="incomplete: put back what is missing"):
        security.broker_settings()


def test_a_secured_broker_grants_nothing_by_itself(security: Security) -> None:
    settings = security.broker_settings()
    assert settings["allow.everyone.if.no.acl.found"] == "false"
    assert settings["super.users"] == "User:admin"
    assert "PLAINTEXT" not in settings["listener.security.protocol.map"]


def test_a_port_that_is_taken_is_not_used_for_another_node(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        cluster = LocalCluster("4.3.1", data, taken - 1, 2, host="127.0.0.1")
        assert cluster.nodes[1].port > taken
