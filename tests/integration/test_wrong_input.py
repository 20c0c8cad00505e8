"""Wrong arguments, settings and files: one line that says what to do, and the documented exit code."""

import gzip
from pathlib import Path

import pytest
from running import CLIENT, Running

SCRIPTS = ["producer", "bucketer", "counter", "recount", "rejected", "broker"]


@pytest.fixture
def alone(tmp_path: Path) -> Running:
    """The scripts with no broker to reach."""
    return Running("localhost:1", tmp_path)


def arguments_of(script: str) -> list[str]:
    return {"recount": ["-"], "broker": ["status"]}.get(script, [])


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("counter.report_secs=5", "error: --set counter.report_secs: counter.report_secs: unknown key"),
        ("counter.report_seconds=soon", "counter.report_seconds: expected a number"),
        ("kafka.bootstrap_servers=${NOWHERE}", "kafka.bootstrap_servers: the environment variable NOWHERE is not set"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(alone: Running, script: str, setting: str, line: str) -> None:
    alone.settings = [setting]
    done = alone.run(script, *arguments_of(script), code=2)
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_flag_is_exit_code_2(alone: Running, script: str) -> None:
    assert "unrecognized arguments" in alone.run(script, *arguments_of(script), "--wrong", code=2).stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_examples(alone: Running, script: str) -> None:
    assert "examples:" in alone.run(script, "--help").stdout


@pytest.mark.parametrize(
    ("script", "arguments"), [("rejected", []), ("rejected", ["--replay"]), ("recount", ["-", "--against", "counts"])]
)
def test_a_broker_that_is_down_is_said_as_the_scripts_say_it(alone: Running, script: str, arguments: list[str]) -> None:
    frame = b'{"uid":"a","ts":1468244340}'
    done = alone.run(script, *arguments, stdin=frame, code=1)
    said = "error: no Kafka broker at localhost:1: connection refused: nothing listens there"
    assert done.stderr.splitlines()[-1] == said


@pytest.mark.parametrize("script", ["producer", "recount"])
def test_a_missing_file_is_named(alone: Running, script: str) -> None:
    done = alone.run(script, "nowhere.gz", code=2)
    assert done.stderr == "error: nowhere.gz: no such file: name one, or `-` for stdin\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n" + b"1\n" * 5_000, "no frame of {} was accepted: 5,000 rejected; the first, line 2: not_an_object: "),
        (b"[]", "{} is empty, there is nothing to compare: "),
        (b"", "{} is empty, there is nothing to compare: "),
        (gzip.compress(b" \n\n"), "{} is empty, there is nothing to compare: "),
    ],
    ids=["no objects", "empty array", "empty", "blank"],
)
def test_nothing_to_compare_is_not_exact(alone: Running, tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "frames"
    file.write_bytes(content)
    done = alone.run("recount", str(file), "--against", "counts", code=1)
    assert f"error: {said.format(file)}" in done.stderr
    assert "exact" not in done.stderr
    assert done.stdout == ""


def test_a_cut_off_file_is_sent_up_to_the_cut_and_said(running: Running, tmp_path: Path) -> None:
    whole = gzip.compress(b'{"uid":"a","ts":1468244384}\n' * 50_000)
    file = tmp_path / "cut.gz"
    file.write_bytes(whole[: len(whole) // 2])
    done = running.run("producer", str(file), code=1)
    assert "frames acknowledged" in done.stderr
    assert "damaged or cut off" in done.stderr
    assert running.run("recount", str(file), code=1).stderr.startswith("error:")


def test_a_topic_with_too_few_partitions_is_refused(running: Running) -> None:
    running.run("bucketer", "--until-caught-up")
    running.settings = ["topics.bucketed.partitions=3"]
    assert "has 1 partitions, the configuration says 3" in running.run("counter", code=1).stderr


def test_a_compacted_log_of_record_is_refused(running: Running) -> None:
    running.settings = ["topics.bucketed.settings={cleanup.policy: compact}"]
    assert "which deletes users" in running.run("counter", code=1).stderr


def test_an_unknown_client_setting_is_named(running: Running) -> None:
    running.settings = ["kafka.bootstrap_timeout=5"]
    said = f"kafka.bootstrap_timeout: {CLIENT} has no such setting"
    assert said in running.run("bucketer", code=2).stderr
