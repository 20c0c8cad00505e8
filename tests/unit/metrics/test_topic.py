"""The topic of metrics: a record for each report, whatever becomes of it."""

import json
from collections import Counter
from typing import Any

from unique_users.errors import BrokerAwayError
from unique_users.messages.frame_totals import FrameTotals
from unique_users.metrics.topic import MetricsTopic
from unique_users.reports.bucket_count import BucketCount
from unique_users.reports.meter import Reading
from unique_users.reports.report import ProducerReport
from unique_users.runtime.activity import Step, timed

REPORT = ProducerReport(
    at=1_716_200_040, reading=Reading(5, 10, 100), frames=FrameTotals(100, 99, Counter({"late": 1}))
)


class Kept:
    """A producer that keeps what it is given; or one that never hears an answer."""

    def __init__(self, *, answers: bool = True) -> None:
        self.answers = answers
        self.records: list[tuple[str, bytes, bytes]] = []
        self.closed = False

    def send(self, topic: str, value: bytes, key: bytes) -> None:
        self.records.append((topic, key, value))

    def flush(self, _timeout_seconds: float) -> bool:
        return self.answers

    def close(self) -> None:
        self.closed = True


def sent(producer: Any, *reports: ProducerReport) -> list[dict[str, Any]]:
    output = MetricsTopic("counter", "metrics", lambda: producer)
    for report in reports:
        with timed(Step.SAVE):
            output.counts([BucketCount(0, 5, 2), BucketCount(60, 9, 3), BucketCount(0, 9, 4, "hour")])
        output.report(report)
    output.close()
    assert {(topic, key) for topic, key, _ in producer.records} <= {("metrics", b"counter")}
    return [json.loads(value) for _, _, value in producer.records]


def test_a_record_has_the_report_the_steps_and_the_new_users() -> None:
    producer = Kept()
    first, second = sent(producer, REPORT, REPORT)
    assert first["process"] == "counter"
    assert first["frames"] == {"read": 100, "accepted": 99, "rejected": {"late": 1}}
    assert first["new_users"] == 5
    assert 0 < second["seconds"]["save"] <= first["seconds"]["save"] + second["seconds"]["save"]
    assert producer.closed


def test_what_does_not_arrive_is_left_out_and_the_next_report_is_sent_by_another_producer() -> None:
    made: list[Kept] = []

    def new_producer() -> Any:
        made.append(Kept(answers=False))
        return made[-1]

    output = MetricsTopic("bucketer", "metrics", new_producer)
    output.report(REPORT)
    output.report(REPORT)
    output.close()
    assert [len(each.records) for each in made] == [1, 1]
    assert all(each.closed for each in made)


def test_without_a_broker_reports_go_on() -> None:
    def refuse() -> Any:
        raise BrokerAwayError("away")

    output = MetricsTopic("bucketer", "metrics", refuse)
    for _ in range(100):
        output.report(REPORT)
    output.close()
