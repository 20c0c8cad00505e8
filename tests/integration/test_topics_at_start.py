"""What the scripts say about the topics that they find at a start, on a real broker."""

import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest
from brokers import config_for
from repository import ROOT, command
from running import Running

from unique_users.clients.connect import get_admin
from unique_users.clients.protocols import Admin
from unique_users.config.schema import Topic
from unique_users.demo.sample import frames

pytestmark = pytest.mark.slow

CLIENTS = ["kafka-python", "librdkafka"]
DAY_MS = 86_400_000
MONTHS = "counter.intervals=[minute, month]"
FRAMES = b"\n".join(frames(50)) + b"\n"


@pytest.fixture(params=CLIENTS)
def scripts(running: Running, request: pytest.FixtureRequest) -> Running:
    """The scripts with either client."""
    running.settings = [f"client={request.param}"]
    return running


@pytest.fixture
def admin(scripts: Running) -> Iterator[Admin]:
    admin = get_admin(config_for(scripts.broker))
    yield admin
    admin.close()


def started(running: Running, script: str, *settings: str, code: int = 0) -> list[str]:
    """What a script says about topics in a run to the end of what is there."""
    before = running.settings
    running.settings = [*before, *settings]
    said = running.run(script, "--until-caught-up", code=code).stderr
    running.settings = before
    assert "Traceback" not in said
    return [line for line in said.splitlines() if "topic" in line]


def retention_ms(admin: Admin, running: Running, topic: str) -> str:
    return admin.settings(running.topic(topic))["retention.ms"]


def test_bucketed_is_made_to_keep_what_the_intervals_need_and_nothing_is_said(scripts: Running, admin: Admin) -> None:
    assert not started(scripts, "counter", MONTHS)
    assert retention_ms(admin, scripts, "bucketed") == str(34 * DAY_MS)
    assert retention_ms(admin, scripts, "counts") == str(7 * DAY_MS), "the broker's default"


def test_a_retention_that_is_configured_is_taken_and_said_to_be_too_short(scripts: Running, admin: Admin) -> None:
    short = "topics.bucketed.settings={retention.ms: 1000}"
    assert not started(scripts, "bucketer", short)
    assert retention_ms(admin, scripts, "bucketed") == "1000"
    (line,) = started(scripts, "counter", short)
    assert "keeps 1 s (retention.ms=1000)" in line
    assert "what is not counted by then is lost" in line


def test_the_command_that_is_said_makes_a_bucketed_of_seven_days_keep_what_months_need(
    scripts: Running, admin: Admin
) -> None:
    admin.create(Topic(name=scripts.topic("bucketed")))
    (line,) = started(scripts, "counter", MONTHS)
    assert "keeps 7 days (retention.ms=604800000), and counting anew without the state takes 32.1 days" in line
    run_said_command(line, scripts)
    assert retention_ms(admin, scripts, "bucketed") == str(34 * DAY_MS)
    assert not started(scripts, "counter", MONTHS)
    admin.create(Topic(name=scripts.topic("feed"), settings={"retention.bytes": 5_000_000}))
    (line,) = started(scripts, "bucketer")
    assert "keeps 7 days (retention.ms=604800000) and at most 5,000,000 bytes" in line
    run_said_command(line, scripts)
    assert not started(scripts, "bucketer")


def run_said_command(line: str, running: Running) -> None:
    """Run the command between backticks as it stands, against this broker."""
    (said,) = re.findall(r"`unique-users (.*)`", line)
    script, tool, *arguments = shlex.split(said)
    address = ["--set", f"kafka.bootstrap_servers={running.broker}", "--config", str(ROOT / "config.yaml")]
    subprocess.run([*command(script), *address, tool, *arguments], check=True, timeout=120)


@pytest.mark.parametrize("topic", ["feed", "rejected"])
def test_a_compacted_topic_that_would_lose_frames_is_refused(scripts: Running, admin: Admin, topic: str) -> None:
    admin.create(Topic(name=scripts.topic(topic), settings={"cleanup.policy": "compact"}))
    (line,) = started(scripts, "bucketer", code=1)
    assert f"error: topic '{scripts.topic(topic)}' has cleanup.policy=compact" in line
    (refused,) = scripts.run("producer", "-", stdin=FRAMES, code=1).stderr.splitlines()
    assert refused == line
    run_said_command(line, scripts)
    scripts.run("producer", "-", stdin=FRAMES)
    assert not started(scripts, "bucketer")


def test_counts_that_are_deleted_after_a_week_are_said(scripts: Running, admin: Admin) -> None:
    admin.create(Topic(name=scripts.topic("counts")))
    (line,) = started(scripts, "counter")
    assert "has cleanup.policy=delete and keeps 7 days" in line
    run_said_command(line, scripts)
    assert not started(scripts, "counter")
