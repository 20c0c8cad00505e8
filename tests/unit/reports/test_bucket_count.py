"""The line of one bucket, printed and read."""

import json

import pytest

from unique_users.aggregation.completeness import Why
from unique_users.aggregation.counts import Estimate
from unique_users.event_time.buckets import Calendar
from unique_users.reports.bucket_count import BucketCount


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
@pytest.mark.parametrize(
    "count",
    [
        BucketCount(1_468_244_340, 42, 7),
        BucketCount(1_468_244_400, Estimate(1_000, 990, 1_010), 1_000, "hour"),
        BucketCount(1_468_244_340, 0, 0, "minute", (Why.LOG_CUT_BACK, Why.STATE_LOST)),
    ],
)
def test_a_json_line_is_read_as_it_was_printed(count: BucketCount, zone: str) -> None:
    assert BucketCount.parsed(json.loads(count.line("json", Calendar(zone)))) == count


@pytest.mark.parametrize("said", [{}, {"report": "2016-07-11T13:39:00Z"}, {"unique_users": 1, "start": "noon"}])
def test_other_json_is_refused(said: dict[str, object]) -> None:
    with pytest.raises((KeyError, ValueError)):
        BucketCount.parsed(said)
