"""Where a new group begins, on a real broker, with the scripts as a person runs them."""

import json
from pathlib import Path

import pytest
from running import Running

pytestmark = pytest.mark.slow

FRAMES = 50


def frames(first: int, count: int) -> bytes:
    return b"".join(b'{"uid": "u%d", "ts": 1468244400}\n' % n for n in range(first, first + count))


@pytest.fixture(params=["kafka-python", "librdkafka"])
def scripts(request: pytest.FixtureRequest, broker: str, tmp_path: Path) -> Running:
    return Running(
        broker,
        tmp_path,
        [f"client={request.param}", "topics.feed.partitions=2", "bucketer.future_seconds_max=100000000000"],
    )


def caught_up(scripts: Running) -> dict[str, object]:
    """What the counter says at the end of everything that is there."""
    scripts.run("bucketer", "--until-caught-up")
    lines = [
        json.loads(line) for line in scripts.run("counter", "--until-caught-up", "--format=json").stdout.splitlines()
    ]
    (summary,) = [line for line in lines if "report" in line]
    return {**summary, "users": sum(line["unique_users"] for line in lines if "start" in line)}


def test_what_was_there_before_is_left_out_and_no_lag(scripts: Running) -> None:
    scripts.run("producer", "-", stdin=frames(0, FRAMES))
    scripts.settings = [*scripts.settings, "bucketer.start=latest"]
    first = caught_up(scripts)
    assert (first["users"], first["feed_lag"], first["lag"]) == (0, 0, 0)
    scripts.run("producer", "-", stdin=frames(FRAMES, 3))
    then = caught_up(scripts)
    assert (then["users"], then["feed_lag"], then["lag"]) == (3, 0, 0)


@pytest.mark.parametrize(("start", "users"), [("2001-01-01T00:00:00Z", FRAMES), ("2200-01-01T00:00:00Z", 0)])
def test_a_time_is_when_frames_came_into_kafka(scripts: Running, start: str, users: int) -> None:
    scripts.run("producer", "-", stdin=frames(0, FRAMES))
    scripts.settings = [*scripts.settings, f"bucketer.start={start}"]
    assert caught_up(scripts)["users"] == users
