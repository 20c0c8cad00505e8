"""What the doctor says of a healthy system and of each fault, on a real broker; and that it changes nothing."""

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from examined import examine
from examined_line import Line, frame
from kafka import KafkaAdminClient
from patience import until
from repository import ROOT
from running import Running

from unique_users.local_kafka.broker import LocalKafka
from unique_users.local_kafka.probe import free_port

pytestmark = pytest.mark.slow

CLIENTS = ["kafka-python", "librdkafka"]
OLD_MS = 20 * 60 * 1000


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """A broker that creates each topic somebody asks for, and that has had no group yet."""
    with started(tmp_path_factory.mktemp("kafka") / "data") as kafka:
        yield kafka


def started(data: Path, **more: str) -> LocalKafka:
    """A broker of its own, which creates topics on its own."""
    data.parent.mkdir(parents=True, exist_ok=True)
    properties = {"auto.create.topics.enable": "true", **more}
    return LocalKafka("4.3.1", data, free_port(), heap="512m", properties=properties)


@pytest.fixture
def line(own_broker: LocalKafka, tmp_path: Path) -> Iterator[Line]:
    line = Line(own_broker.bootstrap_servers, tmp_path)
    yield line
    line.end()


@pytest.mark.parametrize("client", CLIENTS)
def test_where_no_topic_exists_none_is_made(tmp_path: Path, client: str) -> None:
    with started(tmp_path / "kafka" / "data") as kafka:
        running = Running(kafka.bootstrap_servers, tmp_path)
        examined = examine(running, client=client)
        assert examined.code == 1
        names = [running.topic(topic) for topic in ("feed", "bucketed", "counts", "rejected")]
        assert examined.wrong() == [f"topic {name}" for name in names]
        assert examined.of("frames", "skipped").says == "not looked at: it needs the topic of frames"
        with KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers) as admin:
            assert admin.list_topics() == []
            assert admin.list_groups() == []


@pytest.mark.parametrize("client", CLIENTS)
def test_a_healthy_system_is_well(line: Line, client: str) -> None:
    line.make_topics()
    line.keep_sending()
    line.start("bucketer")
    line.start("counter")
    line.until_joined("bucketer")
    line.until_joined("counter")
    until(lambda: line.running.said("counter", "out") != "", "a report")
    examined = line.examine(client=client)
    assert [each for each in examined.found if each.status != "ok"] == []
    assert examined.code == 0
    assert "1 running" in examined.of("bucketer", "ok").says
    assert "apart from" in examined.of("clock", "ok").says
    assert "whole" in examined.of("state", "ok").says


@pytest.mark.parametrize("client", CLIENTS)
def test_it_changes_nothing(line: Line, client: str) -> None:
    line.make_topics()
    line.send(*[frame(uid) for uid in range(50)])
    line.running.run("bucketer", "--until-caught-up")
    line.running.run("counter", "--until-caught-up")
    line.send(frame(99))
    before = everything(line)
    line.examine(client=client)
    assert everything(line) == before


def everything(line: Line) -> dict[str, object]:
    """All that a broker and the state's directory hold, except for the contents of records."""
    state = line.running.directory / "state"
    files = {path.name: (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns) for path in state.iterdir()}
    with KafkaAdminClient(bootstrap_servers=line.broker) as admin:
        names = sorted(name for name in admin.list_topics())
        topics = {each["name"]: each for each in admin.describe_topics(names)}
        asked = {
            (name, part["partition_index"]): -1
            for name, each in topics.items()
            if not name.startswith("__")
            for part in each["partitions"]
        }
        from kafka import TopicPartition  # noqa: PLC0415

        ends = admin.list_partition_offsets({TopicPartition(*place): at for place, at in asked.items()})
        groups = sorted(each["group_id"] for each in admin.list_groups())
        offsets = {group: admin.list_group_offsets({group: None})[group] for group in groups}
    return {"files": files, "topics": topics, "ends": ends, "groups": groups, "offsets": offsets}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_killed_broker_is_named_and_the_rest_is_not_looked_at(tmp_path: Path, client: str) -> None:
    with started(tmp_path / "kafka" / "data") as kafka:
        kafka.kill()
        examined = examine(Running(kafka.bootstrap_servers, tmp_path), client=client)
    assert examined.code == 1
    assert examined.wrong() == ["address"]
    assert "connection refused" in examined.of("address", "wrong").says
    assert "broker start" in examined.of("address", "wrong").do
    assert "a broker that answers" in examined.of("connection", "skipped").says
    examined.of("bucketer", "skipped")
    examined.of("disk", "ok")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_frozen_broker_is_named(tmp_path: Path, client: str) -> None:
    with started(tmp_path / "kafka" / "data") as kafka:
        assert kafka.pid
        os.kill(kafka.pid, signal.SIGSTOP)
        try:
            examined = examine(Running(kafka.bootstrap_servers, tmp_path), client=client)
        finally:
            os.kill(kafka.pid, signal.SIGCONT)
    assert examined.wrong() == ["address"]
    assert "answers no request within" in examined.of("address", "wrong").says
    assert "frozen" in examined.of("address", "wrong").do


@pytest.mark.parametrize("client", CLIENTS)
def test_a_name_that_does_not_resolve_is_named(line: Line, client: str) -> None:
    examined = line.examine("kafka.bootstrap_servers=kafka.invalid:9092", client=client)
    assert examined.wrong() == ["address"]
    assert "'kafka.invalid' cannot be resolved" in examined.of("address", "wrong").says


@pytest.mark.parametrize("client", CLIENTS)
def test_a_broker_that_sends_its_clients_to_a_name_of_docker_is_named(tmp_path: Path, client: str) -> None:
    port, outside, controller = free_port(), free_port(), f"localhost:{free_port()}"
    properties = {
        "listeners": f"PLAINTEXT://localhost:{port},OUTSIDE://127.0.0.1:{outside},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://localhost:{port},OUTSIDE://kafka.invalid:{outside}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.quorum.voters": f"1@{controller}",
    }
    with LocalKafka("4.3.1", tmp_path / "data", port, heap="512m", properties=properties):
        examined = examine(Running(f"127.0.0.1:{outside}", tmp_path), client=client)
    assert examined.code == 1
    assert any(
        "kafka.invalid" in each.says and "advertised.listeners" in each.do
        for each in examined.found
        if each.status == "wrong"
    ), examined.shown()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_missing_topic_is_named(line: Line, client: str) -> None:
    line.make_topics()
    gone = line.running.topic("counts")
    with KafkaAdminClient(bootstrap_servers=line.broker) as admin:
        admin.delete_topics([gone])
    examined = line.examine(client=client)
    assert "does not exist" in examined.of(f"topic {gone}", "wrong").says
    assert "counter.py" in examined.of(f"topic {gone}", "wrong").do
    with KafkaAdminClient(bootstrap_servers=line.broker) as admin:
        assert gone not in admin.list_topics()


@pytest.mark.parametrize("client", CLIENTS)
def test_settings_that_make_counts_wrong_are_named_with_the_command_that_corrects_them(line: Line, client: str) -> None:
    line.make_topics()
    names = {what: line.running.topic(what) for what in ("feed", "bucketed", "counts")}
    with KafkaAdminClient(bootstrap_servers=line.broker) as admin:
        change(admin, names["feed"], "retention.ms", "60000")
        change(admin, names["bucketed"], "cleanup.policy", "compact")
        change(admin, names["counts"], "cleanup.policy", "delete")
    examined = line.examine(client=client)
    assert "frames that are not read by then are lost" in examined.of(f"topic {names['feed']}", "warning").says
    assert "deletes users" in examined.of(f"topic {names['bucketed']}", "wrong").says
    assert "--add-config cleanup.policy=delete" in examined.of(f"topic {names['bucketed']}", "wrong").do
    assert "--add-config cleanup.policy=compact" in examined.of(f"topic {names['counts']}", "wrong").do


def change(admin: Any, topic: str, name: str, value: str) -> None:
    from kafka.admin import ConfigResource, ConfigResourceType  # noqa: PLC0415

    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={name: value})])


@pytest.mark.parametrize("client", CLIENTS)
def test_a_partition_that_is_stuck_while_others_move_is_named(line: Line, client: str) -> None:
    line.running.settings = ["topics.feed.partitions=2", "kafka.session_timeout_ms=60000"]
    line.make_topics()
    processes = [line.start("bucketer"), line.start("bucketer")]
    line.until_joined("bucketer", 2)
    line.keep_sending(partitions=2)
    processes[0].send_signal(signal.SIGSTOP)
    examined = line.examine(client=client)
    found = examined.of("bucketer", "wrong")
    assert "stuck at partition" in found.says
    assert "restart that bucketer" in found.do


@pytest.mark.parametrize("client", CLIENTS)
def test_a_transaction_that_stays_open_is_named(line: Line, client: str) -> None:
    line.make_topics()
    producer = Producer({"bootstrap.servers": line.broker, "transactional.id": line.feed, "log_level": 0})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(line.feed, b'{"uid": "u", "ts": 1700000000}')
    producer.flush()
    found = line.examine(client=client).of("transactions", "warning")
    assert "wait behind an open transaction: " in found.says
    assert "transaction.timeout.ms" in found.do
    producer.commit_transaction()
    assert line.examine(client=client).of("transactions", "ok")


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("script", ["bucketer", "counter"])
def test_a_script_that_does_not_run_is_named_and_one_that_is_frozen_too(line: Line, script: str, client: str) -> None:
    line.running.settings = ["kafka.session_timeout_ms=60000", "counter.save_seconds=1"]
    line.make_topics()
    line.keep_sending()
    if script == "counter":
        line.start("bucketer")
    until(lambda: line.examine(client=client).of(script, "wrong").says.startswith("none is running"), "nobody to run")
    process = line.start(script)
    line.until_joined(script)
    process.send_signal(signal.SIGSTOP)
    examined = line.examine(client=client)
    assert "it stands still" in examined.of(script, "wrong").says
    assert "restart it" in examined.of(script, "wrong").do


@pytest.mark.parametrize("client", CLIENTS)
def test_a_silent_feed_is_named(line: Line, client: str) -> None:
    line.make_topics()
    line.send(frame(), timestamp_ms=int(time.time() * 1000) - OLD_MS)
    found = line.examine(client=client).of("frames", "wrong")
    assert "none for 20 min" in found.says
    assert "producers" in found.do


@pytest.mark.parametrize("client", CLIENTS)
def test_many_bad_frames_are_named_with_their_reasons(line: Line, client: str) -> None:
    line.make_topics()
    line.send(*[frame(uid) if uid % 5 else b"not a frame" for uid in range(200)])
    line.running.run("bucketer", "--until-caught-up")
    found = line.examine(client=client).of("rejected", "wrong")
    assert found.says.startswith("20.0% of the last 10 minutes' frames (40 of 200)")
    assert "not_json 40" in found.says
    assert "unique-users rejected" in found.do


def test_states_that_cannot_be_used_are_named(line: Line) -> None:
    line.make_topics()
    line.send(frame())
    line.running.run("bucketer", "--until-caught-up")
    line.running.run("counter", "--until-caught-up")
    state = line.running.directory / "state" / f"{line.running.topic('bucketed')}-0.sqlite"
    assert "whole" in line.examine().of("state", "ok").says
    state.chmod(0o644)
    assert "others may read it" in line.examine().of("state", "warning").says
    state.chmod(0o600)

    shutil.copyfile(state, kept := state.with_suffix(".kept"))
    with sqlite3.connect(state) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    assert "written by a newer version" in line.examine().of("state", "wrong").says
    state.write_bytes(kept.read_bytes()[:5000] + b"?" * 5000)
    assert "damaged" in line.examine().of("state", "wrong").says
    state.write_bytes(b"this is no database, but a text" * 100)
    found = line.examine().of("state", "wrong")
    assert "damaged" in found.says or "not a state" in found.says
    state.unlink()
    state.mkdir()
    assert "cannot be used" in line.examine().of("state", "wrong").says


def test_a_state_of_an_older_version_is_read_and_left_as_it_is(line: Line) -> None:
    line.make_topics()
    state = line.running.directory / "state" / "bucketed-0.sqlite"
    state.parent.mkdir(exist_ok=True)
    shutil.copyfile(ROOT / "tests/data/version-0.1/bucketed-0.sqlite", state)
    state.chmod(0o600)
    before = state.read_bytes()
    examined = line.examine("topics.bucketed.name=bucketed")
    assert "in an older format" in examined.of("state", "warning").says
    assert state.read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_state_of_another_user_is_named(line: Line) -> None:
    line.make_topics()
    line.send(frame())
    line.running.run("bucketer", "--until-caught-up")
    line.running.run("counter", "--until-caught-up")
    state = line.running.directory / "state" / f"{line.running.topic('bucketed')}-0.sqlite"
    os.chown(state, 65534, -1)
    found = line.examine().of("state", "warning")
    assert "another owner than its folder" in found.says
    assert "chown" in found.do


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_is_almost_full_is_named(line: Line, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        assert line.examine(f"state.directory={disk}").of("disk", "ok")
        (disk / "fills it").write_bytes(b"?" * 80_000_000)
        found = line.examine(f"state.directory={disk}").of("disk", "wrong")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert "almost full" in found.says
    assert "state.directory" in found.do


def test_a_configuration_that_does_not_load_is_named_and_ends_with_2(line: Line) -> None:
    examined = line.examine("counter.repord_seconds=1")
    assert examined.code == 2
    assert examined.wrong() == ["config"]
    assert "did you mean" in examined.text
    examined.of("address", "skipped")
