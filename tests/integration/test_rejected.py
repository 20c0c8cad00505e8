"""Frames that were rejected: why is told, they can be looked at, and are counted after a setting was corrected."""

import json
import subprocess
import time
from typing import Any

import pytest
from kafka import KafkaProducer
from running import Running

pytestmark = pytest.mark.slow

MINUTE = 1_704_116_220  # 2024-01-01T13:37:00Z
FRAMES = [
    json.dumps({"user": {"name": f"u{n % 70}"}, "userId": f"u{n % 70}", "when": MINUTE + n % 180}).encode()
    for n in range(3_000)
]
CORRECTED = ["frame.uid=userId", "frame.ts=when"]


def shown(running: Running, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in running.run("rejected", *arguments, "--format", "json").stdout.splitlines()]


def test_rejected_looked_at_corrected_and_replayed_the_counts_are_exact(running: Running) -> None:
    running.run("producer", "-", stdin=b"\n".join([*FRAMES, b'{"userId":"u","when":[]}', b"\x1b[2J"]))
    said = running.run("bucketer", "--until-caught-up").stderr
    assert f"rejected: {running.topic('feed')}-0@0: no_uid: no 'uid' at the root: {{\"user\": " in said
    assert f"rejected: {running.topic('feed')}-0@3001: not_json: " in said
    assert "none of the first 1,000 frames was accepted: frame.uid is 'uid', frame.ts is 'ts'; seen instead:" in said
    assert "userId (100 %), when (100 %), user.name (100 %)" in said
    assert "\x1b" not in said
    assert len(running.run("rejected").stdout.splitlines()) == 20
    (last,) = shown(running, "--limit", "1", "--reason", "not_json")
    assert (last["value"], last["source"]["offset"]) == ("\x1b[2J", 3_001)
    assert shown(running, "--limit", "2")[0]["reason"] == "no_uid"
    raw = subprocess.run(running.arguments("rejected", "--raw", "--limit", "all"), capture_output=True, check=True)
    assert raw.stdout.splitlines() == [*FRAMES, b'{"userId":"u","when":[]}', b"\x1b[2J"]

    running.settings = CORRECTED
    assert running.run("rejected", "--replay").stdout == "3,002 dead letters sent to feed again\n"
    expected = running.recount(b"\n".join(FRAMES))
    assert len(expected) == 3
    assert running.counts() == expected
    assert running.run("rejected", "--replay").stdout.splitlines() == [
        "0 dead letters sent to feed again",
        "3,002 were replayed before (--again sends them once more)",
        "2 were replayed before and rejected again: their original letters stand for them",
    ]
    assert [letter["replayed"] for letter in shown(running, "--limit", "3")] == [False, True, True]
    again = running.run("rejected", "--replay", "--again", "--format", "json").stdout
    assert json.loads(again)["replayed"] == 3_002
    assert running.counts() == expected


def test_key_headers_and_time_of_a_record_come_through_a_replay(running: Running) -> None:
    running.run("bucketer", "--until-caught-up")
    feed, hour_ago = running.topic("feed"), int(time.time() - 3_600) * 1_000
    with KafkaProducer(bootstrap_servers=running.broker) as producer:
        sent = producer.send(feed, b'{"userId":"u"}', b"k", headers=[("trace", b"7")], timestamp_ms=hour_ago)
        assert sent.get(60).offset == 0
        producer.send(feed, None, b"gone").get(60)
    running.run("bucketer", "--until-caught-up")
    letters = shown(running)
    assert [(letter["reason"], letter["key"], letter["headers"]) for letter in letters] == [
        ("no_uid", "k", [["trace", "7"]]),
        ("tombstone", "gone", []),
    ]
    assert letters[0]["timestamp_ms"] == hour_ago
    assert running.run("rejected", "--replay").stdout.splitlines()[0] == "1 dead letters sent to feed again"
    running.run("bucketer", "--until-caught-up")
    (replayed,) = shown(running, "--limit", "1")
    assert (replayed["key"], replayed["headers"]) == ("k", [["trace", "7"], ["replayed", "1"]])
    assert replayed["source"]["offset"] == 2


def test_without_dead_letters_one_line_says_so(running: Running) -> None:
    missing = running.run("rejected")
    assert missing.stderr == f"topic '{running.topic('rejected')}' does not exist: nothing has been rejected yet\n"
    assert running.run("rejected", "--replay").stderr == missing.stderr
    running.run("bucketer", "--until-caught-up")
    assert running.run("rejected").stderr == f"no dead letters in '{running.topic('rejected')}'\n"
    assert "with reason bad_ts" in running.run("rejected", "--reason", "bad_ts").stderr
    assert running.run("rejected", "--replay").stdout == "0 dead letters sent to feed again\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--reason", "bad"],
        ["--limit", "0"],
        ["--limit", "-1"],
        ["--limit", "few"],
        ["--again"],
        ["--replay", "--raw"],
        ["--replay", "--limit", "3"],
        ["--format", "xml"],
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(running: Running, arguments: list[str]) -> None:
    done = running.run("rejected", *arguments, code=2)
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
