"""The metrics and the health of the real scripts, on a real broker, with either client."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from harness import new_broker
from patience import LIMIT_SECONDS, until
from prometheus_client.parser import text_string_to_metric_families
from repository import ROOT
from running import Running
from topics_on_broker import TopicsOnBroker

from unique_users.config.load import load_config
from unique_users.demo.sample import frames as sample_frames
from unique_users.metrics import Process
from unique_users.metrics.declared import METRICS, PREFIX

CLIENTS = ("kafka-python", "librdkafka")
FRAMES = 2_000
BAD = [b"{", b'{"uid": 1.5, "ts": 1716200040}', b"[]"]

Samples = dict[str, dict[tuple[str, ...], float]]


class Watched:
    """A script that serves its metrics."""

    def __init__(self, scripts: Running, script: Process, *arguments: str) -> None:
        self._scripts = scripts
        self._script = script
        self.process = scripts.start(script, "--set", "metrics.port=0", *arguments)

    def address(self) -> str:
        def said() -> list[str]:
            return re.findall(r"(http://127\.0\.0\.1:\d+) has /metrics", self._scripts.said(self._script))

        return until(said, f"{self._script} to say where its metrics are")[-1]

    def ask(self, path: str) -> tuple[int, str]:
        try:
            with urlopen(f"{self.address()}/{path}", timeout=LIMIT_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self) -> Samples:
        """The samples by name without prefix, and by their labels' values in the order of the labels' names."""
        found: Samples = {}
        for family in text_string_to_metric_families(self.ask("metrics")[1]):
            for sample in family.samples:
                labels = tuple(value for _, value in sorted(sample.labels.items()))
                found.setdefault(sample.name.removeprefix(PREFIX), {})[labels] = sample.value
        return found

    def value(self, name: str, *labels: str) -> float:
        return self.metrics().get(name, {}).get(labels, -1.0)


@pytest.fixture(params=CLIENTS)
def scripts(request: pytest.FixtureRequest, running: Running) -> Running:
    """The scripts, which count hours as well."""
    settings = ["counter.intervals=[minute, hour]", "bucketer.future_seconds_max=100000000000"]
    running.settings = [f"client={request.param}", *settings]
    return running


def known(process: Process, metrics: Samples) -> set[str]:
    """The declared metrics of a process that have samples."""
    names = {name.removesuffix("_bucket").removesuffix("_total") for name in metrics}
    return {each.name for each in METRICS if process in each.processes and each.name in names}


def test_what_the_scripts_tell_is_what_they_did(scripts: Running) -> None:
    frames = [*sample_frames(FRAMES, FRAMES // 3, 180, seed=1, start=1_716_200_040), *BAD]
    scripts.run("producer", "-", stdin=b"\n".join(frames))
    bucketer, counter = Watched(scripts, "bucketer"), Watched(scripts, "counter")
    until(lambda: bucketer.value("frames_read_total") == len(frames), "all frames to be committed")
    until(lambda: counter.value("records_in_total") == FRAMES, "all frames to be counted")
    until(lambda: counter.value("buckets", "hour") > 0, "the counter's loop to look")
    until(lambda: set(bucketer.metrics().get("lag_records", {}).values()) == {0.0}, "a lag of 0")
    until(lambda: counter.value("closed_minute_users") > 0, "a minute to have ended")
    told = bucketer.metrics()
    assert told["frames_accepted_total"] == {(): FRAMES}
    assert told["frames_rejected_total"] == {("not_json",): 1, ("bad_uid",): 1, ("not_an_object",): 1}
    assert told["records_in_total"] == {(): len(frames)}
    assert told["bytes_in_total"] == {(): pytest.approx(sum(map(len, frames)), rel=0.05)}
    assert told["records_out_total"] == {(scripts.topic("bucketed"),): FRAMES, (scripts.topic("rejected"),): len(BAD)}
    assert told["lateness_seconds_count"][()] <= FRAMES
    assert told["step_seconds_count"][("commit",)] >= 1
    counted = counter.metrics()
    assert counted["new_users_total"][("minute",)] >= counted["new_users_total"][("hour",)] > 0
    assert counted["users_in_memory"][()] == sum(counted["new_users_total"].values())
    assert counted["buckets_not_whole"] == {("minute",): 0, ("hour",): 0}
    assert counted["closed_minute_users"][()] > 0
    assert counted["state_free_bytes"][()] > counted["state_bytes"][()] > 0
    assert counted["last_publish_timestamp_seconds"][()] >= counted["last_save_timestamp_seconds"][()] > 0
    assert [bucketer.ask(path)[0] for path in ("healthz", "readyz")] == [200, 200]
    assert [counter.ask(path)[0] for path in ("healthz", "readyz")] == [200, 200]
    undeclared = {name for name in (*told, *counted) if not name.startswith(("process_", "python_"))} - {
        each.name + ending for each in METRICS for ending in ("", "_total", "_bucket", "_count", "_sum", "_created")
    }
    assert undeclared == set()
    missing = {each.name for each in METRICS if "bucketer" in each.processes} - known("bucketer", told)
    assert missing == set()
    missing = {each.name for each in METRICS if "counter" in each.processes} - known("counter", counted)
    assert missing == set()
    assert scripts.end(bucketer.process) == scripts.end(counter.process) == 0


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
def test_without_a_broker_a_script_is_healthy_but_not_ready(client: str, tmp_path: Path) -> None:
    kafka = new_broker(tmp_path / "kafka")
    scripts = Running(kafka.bootstrap_servers, tmp_path, [f"client={client}"])
    try:
        counter = Watched(scripts, "counter")
        assert counter.ask("healthz") == (200, "ok\n")
        assert counter.ask("readyz") == (503, "waiting for the broker\n")
        assert counter.metrics()["state_free_bytes"][()] > 0
        with kafka:
            until(lambda: counter.ask("readyz")[0] == 200, "the counter to be ready")
            kafka.kill()
            assert counter.ask("healthz") == (200, "ok\n")
            until(lambda: counter.value("partitions") == 1, "its partition to be among the metrics")
    finally:
        scripts.end_all()


def test_the_page_tells_what_it_shows(running: Running) -> None:
    running.run("producer", "-", stdin=b"\n".join(sample_frames(FRAMES, 50, 180, seed=3, start=1_716_200_040)))
    running.counts()
    page = Watched(running, "dashboard", "--set", "dashboard.port=0")
    until(lambda: page.ask("readyz")[0] == 200, "the page to have read the counts")
    until(lambda: "pipeline_state" in page.metrics(), "what it shows to be among the metrics")
    states = page.metrics()["pipeline_state"]
    assert sorted(states.values()) == [0.0] * (len(states) - 1) + [1.0]
    assert page.value("pages") == 0
    assert page.ask("healthz") == (200, "ok\n")
    assert running.end(page.process) == 0


def test_a_dead_process_does_not_answer(running: Running) -> None:
    counter = Watched(running, "counter")
    assert counter.ask("healthz")[0] == 200
    counter.process.kill()
    counter.process.wait()
    with pytest.raises(URLError):
        counter.ask("healthz")


def test_a_port_that_is_taken_ends_a_script_at_once(running: Running) -> None:
    counter = Watched(running, "counter")
    port = counter.address().rpartition(":")[2]
    done = running.run("bucketer", "--set", f"metrics.port={port}", code=2)
    assert f"cannot listen at 127.0.0.1 port {port}" in done.stderr
    assert "--set metrics.port=" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert running.end(counter.process) == 0


def test_each_report_is_a_record_of_the_topic_of_metrics(scripts: Running) -> None:
    topic = f"{scripts.name}-metrics"
    reports = [f"{script}.report_seconds=1" for script in ("producer", "bucketer", "counter")]
    scripts.settings = [*scripts.settings, f"topics.metrics.name={topic}", *reports]
    scripts.run("producer", "-", stdin=b"\n".join(sample_frames(FRAMES, 50, 180, seed=2, start=1_716_200_040)))
    running = [scripts.start("bucketer"), scripts.start("counter")]
    topics = TopicsOnBroker(load_config(str(ROOT / "config.yaml"), [f"kafka.bootstrap_servers={scripts.broker}"]))
    found: dict[bytes, dict[str, Any]] = {}

    def all_have_told() -> bool:
        for record in topics.read(topic):
            told = json.loads(record.value or b"")
            if told["read"] == FRAMES:
                found.setdefault(record.key or b"", told)
        return found.keys() >= {b"bucketer", b"counter"}

    until(all_have_told, "a record of each script")
    counted = found[b"counter"]
    assert counted["process"] == "counter"
    assert counted["new_users"] > 0
    assert {"poll", "update", "save", "publish"} <= counted["seconds"].keys()
    assert found[b"bucketer"]["frames"] == {"read": FRAMES, "accepted": FRAMES, "rejected": {}}
    assert [scripts.end(process) for process in running] == [0, 0]
