"""Frames in the shapes of real sources, through the real scripts and a real broker."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping

import pytest
from kafka import KafkaProducer
from real_frames import REAL_FRAMES
from running import Running

from unique_users.messages.frame import FrameFormat, Reason

pytestmark = pytest.mark.slow

SOURCES = ["42", "Segment, known", "Connect, JsonConverter", "Schema Registry JSON", "Berlin in summer", "ECS, nested"]


def settings(form: FrameFormat) -> list[str]:
    return [
        f"frame.{name}={'[' + ', '.join(value) + ']' if isinstance(value, list) else value}"
        for name, value in form._asdict().items()
        if value is not None
    ]


def rejected(report: str) -> Mapping[str, int]:
    """The reasons in the last line of a bucketer's JSON report."""
    found: Mapping[str, int] = json.loads(report.splitlines()[-1])["frames"]["rejected"]
    return found


@pytest.mark.parametrize("source", SOURCES)
def test_every_shape_is_counted_or_rejected_as_the_table_says(running: Running, source: str) -> None:
    form = next(case.form for case in REAL_FRAMES if case.source == source)
    cases = [case for case in REAL_FRAMES if case.form == form]
    running.settings = settings(form)
    expected: defaultdict[int, set[str]] = defaultdict(set)
    reasons = Counter[str]()
    running.run("bucketer", "--until-caught-up")  # creates the topics
    producer = KafkaProducer(bootstrap_servers=running.broker)
    for case in cases:
        producer.send(running.topic("feed"), case.message)
        for frame in case.expected:
            if isinstance(frame, Reason):
                reasons[frame.value] += 1
            else:
                expected[frame[1] // 60 * 60].add(frame[0])
    producer.close()
    report = running.run("bucketer", "--until-caught-up", "--format", "json").stdout
    assert rejected(report) == reasons
    assert running.counts() == {minute: len(users) for minute, users in expected.items()}


def test_the_key_and_the_time_of_a_record_may_stand_for_fields(running: Running) -> None:
    running.settings = ["frame.uid=[uid, $key]", "frame.ts=$timestamp"]
    running.run("bucketer", "--until-caught-up")  # creates the topics
    producer = KafkaProducer(bootstrap_servers=running.broker)
    for value, key, second in [(b"{}", b"a", 0), (b'{"uid":"b"}', b"a", 59), (b"[{},{}]", b"c", 60), (b"{}", None, 61)]:
        producer.send(running.topic("feed"), value, key, timestamp_ms=(1_716_200_040 + second) * 1000)
    producer.close()
    report = running.run("bucketer", "--until-caught-up", "--format", "json").stdout
    assert rejected(report) == {"no_uid": 1}
    assert running.counts() == {1_716_200_040: 2, 1_716_200_100: 1}
