"""The demo as a person runs it: one command, with a directory of its own."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
from patience import LIMIT_SECONDS, until
from repository import ROOT, command

from unique_users.clients.connect import get_admin
from unique_users.config.load import load_config
from unique_users.demo.sample import write_sample
from unique_users.demo.steps import compare
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.reports.bucket_count import BucketCount


class Demo:
    """A running demo.py, all its output in one file."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self._output = directory / "output.txt"
        line = [*command("demo"), f"--config={ROOT / 'config.yaml'}", "--rate=100000"]
        sets = [f"--set=broker.data={directory / 'data'}", f"--set=producer.file={directory / 'stream.gz'}"]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*line, *sets, *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )

    def said(self) -> str:
        return self._output.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str) -> None:
        until(
            lambda: text in self.said(),
            lambda: f"{text}: {self.said()}",
            give_up=lambda: self.process.poll() is not None,
            every=0.02,
        )

    def ends(self) -> int:
        return self.process.wait(LIMIT_SECONDS)

    def interrupt(self) -> None:
        self.process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT))

    def left_behind(self) -> list[psutil.Process]:
        """Processes of this demo: all of them have its directory among their arguments."""
        return [process for process in psutil.process_iter() if self._names_directory(process)]

    def _names_directory(self, process: psutil.Process) -> bool:
        try:
            return any(str(self.directory) in argument for argument in process.cmdline())
        except psutil.Error:
            return False


@pytest.fixture
def run_demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Starts the demo; nothing of it outlives the test."""
    write_sample(tmp_path / "stream.gz", 4_000)
    demos = []

    def run(*arguments: str) -> Demo:
        demos.append(Demo(tmp_path, *arguments))
        return demos[-1]

    yield run
    for demo in demos:
        for process in demo.left_behind():
            process.kill()


def test_the_demo_counts_exactly_and_leaves_nothing_behind(run_demo: Callable[..., Demo]) -> None:
    demo = run_demo()
    assert demo.ends() == 0, demo.said()
    assert f"exact: {demo.directory / 'stream.gz'}" in demo.said()
    assert demo.said().count("Ctrl-C") == 1
    assert "counter: finished" in demo.said()
    assert re.search(r"dashboard: http://127\.0\.0\.1:\d+/ shows", demo.said())
    assert demo.left_behind() == []


def test_the_live_demo_shows_a_page_of_its_stream_until_it_is_stopped(run_demo: Callable[..., Demo]) -> None:
    demo = run_demo("--live", "--rate=0.5")
    demo.wait_for("the last day is sent")
    (address,) = re.findall(r"dashboard: (http://\S+/) shows", demo.said())
    until(lambda: page_of(address)["intervals"]["minute"]["open"], demo.said)
    demo.interrupt()
    assert demo.ends() == 0, demo.said()
    assert "Traceback" not in demo.said()
    assert demo.left_behind() == []


def page_of(address: str) -> Any:
    with urlopen(f"{address}api/now", timeout=LIMIT_SECONDS) as answer:
        return json.load(answer)


def test_on_a_cluster_the_demo_uses_topics_of_its_own_and_deletes_them(
    run_demo: Callable[..., Demo], broker: str
) -> None:
    demo = run_demo(f"--set=kafka.bootstrap_servers={broker},{broker}")
    assert demo.ends() == 0, demo.said()
    assert "exact" in demo.said()
    assert remaining_topics(demo, broker) == []
    assert demo.left_behind() == []
    assert not (demo.directory / "data").exists()


def remaining_topics(demo: Demo, broker: str) -> list[str]:
    prefix = re.findall(r"with the topics (demo-[0-9a-f]+-)\*", demo.said())[0]
    admin = get_admin(load_config(str(ROOT / "config.yaml"), [f"kafka.bootstrap_servers={broker}"]))
    try:
        names = [prefix + topic for topic in ("feed", "bucketed", "counts", "rejected")]
        return [name for name in names if admin.describe(name) is not None]
    finally:
        admin.close()


@pytest.mark.parametrize("moment", ["starting Kafka", "counter: reading"])
def test_ctrl_c_stops_all_that_was_started(run_demo: Callable[..., Demo], moment: str) -> None:
    demo = run_demo("--rate=100")
    demo.wait_for(moment)
    time.sleep(0.3)
    demo.interrupt()
    assert demo.ends() == 1, demo.said()
    assert "stopped before the end" in demo.said()
    assert "Traceback" not in demo.said()
    assert demo.left_behind() == []


def test_an_impatient_second_ctrl_c_and_a_sigterm_change_nothing(run_demo: Callable[..., Demo], broker: str) -> None:
    demo = run_demo("--rate=100", f"--set=kafka.bootstrap_servers={broker},{broker}")
    demo.wait_for("bucketer: reading")
    demo.interrupt()
    demo.wait_for("stopping")
    demo.interrupt()
    if sys.platform != "win32":
        demo.process.terminate()
    assert demo.ends() == 1, demo.said()
    assert remaining_topics(demo, broker) == []
    assert demo.left_behind() == []


def test_a_script_that_fails_ends_the_demo_with_its_last_words(run_demo: Callable[..., Demo], broker: str) -> None:
    compacted = "--set=topics.bucketed.settings={cleanup.policy: compact}"
    demo = run_demo(compacted, f"--set=kafka.bootstrap_servers={broker},{broker}")
    assert demo.ends() == 1
    assert re.search(r"(bucketer|counter): error: topic 'demo-.*-bucketed' has cleanup.policy=compact", demo.said())
    assert ".py ended too early, with exit code 1\n" in demo.said()
    assert demo.left_behind() == []


def test_a_wrong_setting_ends_the_demo_with_2_before_anything_starts(run_demo: Callable[..., Demo]) -> None:
    demo = run_demo("--set=counter.report_secs=3")
    assert demo.ends() == 2
    assert "report_seconds" in demo.said()
    assert not (demo.directory / "data").exists()


def test_a_count_that_is_wrong_missing_or_too_many_differs(capsys: pytest.CaptureFixture[str]) -> None:
    counted = of_minutes({0: 1_234, 60: 5, 120: 6})
    true = [BucketCount(0, 1_234, 1_234), BucketCount(60, 4, 4), BucketCount(180, 7, 7)]
    assert not compare(counted, true, Calendar())
    assert capsys.readouterr().out.splitlines() == [
        "minute                  counted  recounted",
        "1970-01-01T00:00:00Z      1,234      1,234",
        "1970-01-01T00:01:00Z          5          4  differs",
        "1970-01-01T00:02:00Z          6          0  differs",
        "1970-01-01T00:03:00Z          0          7  differs",
    ]
    assert compare(of_minutes({0: 1_234}), true[:1], Calendar())
    assert not compare({}, [], Calendar())


def test_a_file_of_which_nothing_is_accepted_is_not_exact(
    run_demo: Callable[..., Demo], broker: str, tmp_path: Path
) -> None:
    file = tmp_path / "stream.gz"
    file.write_bytes(b"1\n" * 5_000)
    demo = run_demo(f"--set=kafka.bootstrap_servers={broker},{broker}")
    assert demo.ends() == 1
    said = f"error: no frame of {file} was accepted: 5,000 rejected; the first, line 1: not_an_object: "
    assert f"{said}the root is a number: 1\n" in demo.said()
    assert "\nexact" not in demo.said()


def of_minutes(counts: dict[int, int]) -> dict[Bucket, int]:
    return {Bucket("minute", start): count for start, count in counts.items()}


def test_the_demo_shows_every_interval_and_compares_the_exact_ones(run_demo: Callable[..., Demo], broker: str) -> None:
    intervals = ["--set=counter.intervals=[hour, day, month]", "--set=counter.estimates=[month]"]
    cluster = f"--set=kafka.bootstrap_servers={broker},{broker}"
    demo = run_demo(*intervals, cluster, "--set=counter.timezone=Europe/Berlin")
    assert demo.ends() == 0, demo.said()
    assert re.search(r"2024-01-01T00:00:00\+01:00  month  [\d,]+ unique users \([\d,]+ to [\d,]+\)", demo.said())
    compared = demo.said().partition("recount: ")[2]
    assert [line.split()[0] for line in compared.splitlines() if "recounted" in line] == ["hour", "day"]
    assert re.search(r"\n2024-01-01T00:00:00\+01:00  +([\d,]+)  +\1\n", compared)
    assert "\nexact: " in compared


def test_the_demo_says_that_it_compares_exact_counts(run_demo: Callable[..., Demo]) -> None:
    demo = run_demo("--set=counter.intervals=[month]", "--set=counter.estimates=[month]")
    assert demo.ends() == 2
    assert "leave at least one interval exact" in demo.said()
