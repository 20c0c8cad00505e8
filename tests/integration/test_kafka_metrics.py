"""Kafka's own metrics and alerts, and the commands of the runbook, on a real broker."""

import re
import shlex
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml
from patience import until
from prometheus import binary
from repository import ROOT, command

from unique_users.demo.sample import frames
from unique_users.local_kafka.broker import free_port

pytestmark = pytest.mark.slow  # a dozen Java tools, each of which takes seconds
SECONDS_MAX = 90
ALERTS = ROOT / "deploy" / "prometheus" / "kafka-alerts.yml"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
SECTIONS = ("What the topics take", "Watching Kafka")
NAMES = {
    "kafka_active_brokers",
    "kafka_active_controller",
    "kafka_bytes_in_total",
    "kafka_bytes_out_total",
    "kafka_dead_log_cleaners",
    "kafka_isr_expands_total",
    "kafka_isr_shrinks_total",
    "kafka_log_size_bytes",
    "kafka_messages_in_total",
    "kafka_offline_log_directories",
    "kafka_offline_partitions",
    "kafka_partitions",
    "kafka_request_seconds",
    "kafka_requests_total",
    "kafka_under_min_isr_partitions",
    "kafka_under_replicated_partitions",
}


@dataclass
class Watched:
    """A broker that was started with --metrics, by the command, with the topics and groups of the scripts."""

    directory: Path
    metrics_port: int

    def run(self, script: str, *arguments: str, text: str | None = None, code: int = 0) -> str:
        """What a command prints; it must end with exit code `code`."""
        config = str(self.directory / "config.yaml")
        line = [*command(script), "--config", config, *arguments]
        done = subprocess.run(
            line, input=text, capture_output=True, text=True, timeout=SECONDS_MAX, cwd=self.directory, check=False
        )
        assert done.returncode == code, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def scraped(self) -> dict[str, float]:
        """The metrics, by name with labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=SECONDS_MAX) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs if name.startswith("kafka_")}

    def processes(self) -> list[psutil.Process]:
        """What runs in this directory."""
        data = str(self.directory / "data")
        return [p for p in psutil.process_iter(["cmdline"]) if any(data in a for a in p.info["cmdline"] or ())]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    directory, metrics = tmp_path_factory.mktemp("watched"), free_port()
    (directory / "config.yaml").write_text(
        f"kafka: {{bootstrap_servers: 'localhost:{free_port()}'}}\nbroker: {{data: data}}\n"
    )
    watched = Watched(directory, metrics)
    try:
        started = watched.run("broker", "start", "--metrics", str(metrics))
        assert f"metrics: http://127.0.0.1:{metrics}/metrics" in started
        watched.run("producer", "-", text="".join(line.decode() + "\n" for line in frames(500)))
        for script in ("bucketer", "counter"):
            watched.run(script, "--until-caught-up")
        yield watched
    finally:
        for process in watched.processes():
            process.kill()
            process.wait(SECONDS_MAX)


def test_the_metrics_of_the_broker_are_there(watched: Watched) -> None:
    found = watched.scraped()
    assert {name.partition("{")[0] for name in found} == NAMES
    assert found['kafka_messages_in_total{topic="feed"}'] == 500
    assert found['kafka_bytes_out_total{topic="bucketed"}'] > 0
    assert found['kafka_log_size_bytes{partition="0",topic="bucketed"}'] > 0
    assert 0 < found['kafka_request_seconds{quantile="0.99",request="Produce"}'] < SECONDS_MAX
    assert found["kafka_active_controller"] == found["kafka_active_brokers"] == 1
    assert found["kafka_offline_partitions"] == found["kafka_under_replicated_partitions"] == 0


def test_only_this_machine_reaches_them(watched: Watched) -> None:
    listening = [
        connection.laddr.ip.removeprefix("::ffff:")
        for process in watched.processes()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == watched.metrics_port
    ]
    assert listening == ["127.0.0.1"]


def test_tools_that_are_started_meanwhile_do_not_want_the_port(watched: Watched) -> None:
    said = watched.run("broker", "tool", "kafka-topics", "--list")
    assert "bucketed" in said
    assert "Address already in use" not in said
    assert watched.scraped()


def test_a_start_with_metrics_of_a_broker_that_runs_with_them_changes_nothing(watched: Watched) -> None:
    assert "already there" in watched.run("broker", "start", "--metrics", str(watched.metrics_port))
    said = watched.run("broker", "start", "--metrics", str(free_port()), code=1)
    assert "Kafka runs without metrics at http://127.0.0.1:" in said


def commands() -> list[str]:
    """The commands for Kafka's tools in the sections of the runbook that have them."""
    found = []
    for section in SECTIONS:
        text = OPERATIONS.split(f"\n## {section}\n")[1].split("\n## ")[0]
        blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        lines = "".join(blocks).splitlines()
        found += [line for line in lines if line.startswith("unique-users broker tool")]
    return found


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_runbook_works(watched: Watched, line: str) -> None:
    _, _, *arguments = shlex.split(line, comments=True)
    said = watched.run("broker", *arguments)
    if "--group bucketer" in line and "--state" not in line and "--members" not in line:
        assert re.search(r"bucketer +feed +0 +500 +500 +0 ", said), "group, topic, partition, offset, end, lag"


def test_the_runbook_has_commands_for_lag_replicas_and_groups() -> None:
    text = "\n".join(commands())
    for wanted in (
        "--describe --group",
        "--state",
        "--members",
        "--under-replicated",
        "--unavailable",
        "kafka-log-dirs",
    ):
        assert wanted in text


def test_stop_leaves_nothing(tmp_path: Path) -> None:
    broker = Watched(tmp_path, free_port())
    (tmp_path / "config.yaml").write_text(f"kafka: {{bootstrap_servers: 'localhost:{free_port()}'}}\n")
    broker.run("broker", "start", "--metrics", str(broker.metrics_port))
    assert broker.scraped()
    broker.run("broker", "stop")
    assert broker.processes() == []
    with pytest.raises(OSError, match="refused"):
        broker.scraped()
    assert "without metrics" not in broker.run("broker", "start")
    with pytest.raises(OSError, match="refused"):
        broker.scraped()
    assert "Kafka runs without metrics at" in broker.run("broker", "start", "--metrics", code=1)
    broker.run("broker", "stop")


def test_metrics_of_kafka_2_4_are_refused(tmp_path: Path) -> None:
    broker = Watched(tmp_path, free_port())
    (tmp_path / "config.yaml").write_text(f"kafka: {{bootstrap_servers: 'localhost:{free_port()}'}}\n")
    said = broker.run("broker", "start", "--metrics", "--kafka-version", "2.4.0", code=2)
    assert "--metrics needs Kafka 4" in said


def lacking(nodes: list[Watched]) -> float:
    """How many partitions lack a replica, as these nodes tell."""
    return sum(node.scraped()["kafka_under_replicated_partitions"] for node in nodes)


def test_a_cluster_tells_of_replicas_that_are_gone(tmp_path: Path) -> None:
    """Three nodes, each with metrics | one is killed: partitions lack a replica | it is back: they have it again"""
    cluster = Watched(tmp_path, free_port())
    (tmp_path / "config.yaml").write_text(f"kafka: {{bootstrap_servers: 'localhost:{free_port()}'}}\n")
    try:
        said = cluster.run("broker", "start", "--nodes", "3", "--metrics", str(cluster.metrics_port))
        nodes = [Watched(tmp_path, int(port)) for port in re.findall(r"http://127.0.0.1:(\d+)/metrics", said)]
        assert len(nodes) == 3
        make = "kafka-topics --create --topic t --partitions 3 --replication-factor 3"
        cluster.run("broker", "tool", *make.split())
        assert sum(node.scraped()["kafka_active_controller"] for node in nodes) == 1
        (last,) = [p for p in cluster.processes() if any("node-3" in argument for argument in p.cmdline())]
        last.kill()
        last.wait(SECONDS_MAX)
        alive = nodes[:2]
        until(lambda: lacking(alive) >= 3, "replicas to be missing")
        said = cluster.run("broker", "tool", "kafka-topics", "--describe", "--under-replicated-partitions")
        assert said.count("Topic: t") == 3
        cluster.run("broker", "start", "--metrics", str(cluster.metrics_port))
        until(lambda: not lacking(nodes), "all replicas to be in sync again")
        cluster.run("broker", "stop")
        assert cluster.processes() == []
    finally:
        for process in cluster.processes():
            process.kill()
            process.wait(SECONDS_MAX)


def rules() -> list[dict[str, object]]:
    (group,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    found: list[dict[str, object]] = group["rules"]
    return found


def anchor(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_alert_asks_for_what_is_served_and_leads_to_a_section() -> None:
    anchors = {anchor(heading) for heading in re.findall(r"^#+ (.*)", OPERATIONS, re.MULTILINE)}
    for rule in rules():
        asked = set(re.findall(r"kafka_\w+", str(rule["expr"])))
        assert asked <= NAMES, rule["alert"]
        annotations = rule["annotations"]
        assert isinstance(annotations, dict)
        page, _, section = annotations["runbook_url"].partition("#")
        assert (page, section in anchors) == ("docs/operations.md", True), annotations["runbook_url"]


def promtool(*arguments: str) -> None:
    line = [binary("promtool"), *arguments]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ALERTS.parent, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_are_valid() -> None:
    promtool("check", "rules", ALERTS.name)


def test_the_alerts_fire_when_they_should_and_not_else() -> None:
    promtool("test", "rules", "kafka-alerts.test.yml")
    tests = (ALERTS.parent / "kafka-alerts.test.yml").read_text(encoding="utf-8")
    for rule in rules():
        assert tests.count(f"alertname: {rule['alert']}") >= 2, f"{rule['alert']}: fires, and does not"
