import json
from collections import Counter

from unique_users.messages.frame_counts import FrameCounts
from unique_users.reports.report import BucketCount, BucketerReport, Summary

MINUTE = 1_468_244_340


def test_a_bucket_is_one_line_for_people() -> None:
    line = BucketCount(MINUTE, 46_543, 1_203).line("text")
    assert line == "2016-07-11T13:39:00Z  minute  46,543 unique users  +1,203"


def test_a_bucket_is_one_json_line_for_programs() -> None:
    line = BucketCount(MINUTE, 46_543, 1_203).line("json")
    assert line == '{"interval":"minute","start":"2016-07-11T13:39:00Z","unique_users":46543,"new":1203}'


def test_the_summary_is_there_also_when_nothing_came() -> None:
    assert Summary(MINUTE, 0, 0, 0).lines("text") == [
        "2016-07-11T13:39:00Z  report  0 messages read, 0 buckets changed, lag 0"
    ]


def test_the_summary_says_when_the_broker_does_not_answer_and_what_was_left_out() -> None:
    lines = Summary(MINUTE, 1_000, 2, None, unreadable=3_000).lines("text")
    assert lines == [
        (
            "2016-07-11T13:39:00Z  report  1,000 messages read, 2 buckets changed,"
            " no answer from the broker, 3,000 unreadable messages skipped"
        )
    ]


def test_the_summary_says_what_waits_before_the_counter_and_what_became_of_all_frames() -> None:
    frames = FrameCounts(1_010, 1_000, Counter({"late": 7, "bad_ts": 3}))
    summary = Summary(MINUTE, 0, 0, 0, feed_lag=30_000, feed_behind_seconds=12.4, frames=frames)
    assert summary.lines("text") == [
        (
            "2016-07-11T13:39:00Z  report  0 messages read, 0 buckets changed, lag 0,"
            " 30,000 frames wait for a bucketer, 12 s behind"
        ),
        "2016-07-11T13:39:00Z  frames  1,010 frames read = 1,000 counted + 10 rejected (bad_ts 3, late 7)",
    ]
    assert Summary.read(json.loads(summary.lines("json")[0])) == summary


def test_the_summary_as_json_has_all_fields_always() -> None:
    frames = FrameCounts(5, 3, Counter({"late": 2}))
    assert json.loads(Summary(MINUTE, 1_000, 2, 7, 3, (1, 3), 4, 11, 0.5, frames).lines("json")[0]) == {
        "partitions": [1, 3],
        "of": 4,
        "report": "2016-07-11T13:39:00Z",
        "messages_read": 1_000,
        "buckets_changed": 2,
        "lag": 7,
        "broker_answers": True,
        "missing": [],
        "unreadable": 3,
        "feed_lag": 11,
        "feed_behind_seconds": 0.5,
        "frames": {"read": 5, "counted": 3, "rejected": {"late": 2}},
    }
    away = json.loads(Summary(MINUTE, 0, 0, None).lines("json")[0])
    assert (away["lag"], away["broker_answers"]) == (None, False)


def bucketer_report(
    counts: FrameCounts, lag: int | None, partitions: int, missing: tuple[str, ...] = (), new: FrameCounts | None = None
) -> str:
    return BucketerReport(MINUTE, counts, new or FrameCounts(), 2.0, lag, partitions, missing).line("text")


def test_the_bucketers_line_tells_the_rate_and_its_json_what_is_new() -> None:
    new = FrameCounts(500, 499, Counter({"late": 1}))
    assert bucketer_report(FrameCounts(1_000, 1_000), 0, 1, (), new).endswith(", lag 0, 250 frames/s")
    told = json.loads(BucketerReport(MINUTE, new + new, new, 2.0, None, 1).line("json"))
    assert told["frames"] == {"read": 1_000, "accepted": 998, "rejected": {"late": 2}}
    assert told["new"] == {"read": 500, "accepted": 499, "rejected": {"late": 1}}
    assert (told["frames_per_second"], told["lag"], told["broker_answers"]) == (250, None, False)


def test_the_bucketers_line_holds_the_counts_and_the_lag() -> None:
    assert bucketer_report(FrameCounts(1_000, 1_000), 2_000, 1) == (
        "1,000 frames read = 1,000 accepted + 0 rejected, lag 2,000"
    )
    assert bucketer_report(FrameCounts(), None, 1).endswith(", no answer from the broker")
    assert bucketer_report(FrameCounts(), 0, 0).endswith(", lag 0, no partition")


def test_the_summary_says_of_which_partitions_it_speaks_when_these_are_not_all() -> None:
    share = Summary(MINUTE, 0, 0, 0, partitions=(1, 3), of=4).lines("text")[0]
    assert share.endswith("lag 0, partitions 1 3 of 4")
    assert Summary(MINUTE, 0, 0, 0, partitions=(2,), of=4).lines("text")[0].endswith("lag 0, partition 2 of 4")
    assert Summary(MINUTE, 0, 0, 0, partitions=(0, 1), of=2).lines("text")[0].endswith("lag 0")
    assert Summary(MINUTE, 0, 0, 0, partitions=(), of=None).lines("text")[0].endswith("lag 0, no partition")


def test_topics_that_are_gone_are_named_and_their_lag_is_not_0() -> None:
    summary = Summary(MINUTE, 0, 0, None, missing=("bucketed", "counts"))
    assert ", no topic 'bucketed', no topic 'counts'" in summary.lines("text")[0]
    as_json = json.loads(summary.lines("json")[0])
    assert (as_json["lag"], as_json["missing"], as_json["broker_answers"]) == (None, ["bucketed", "counts"], True)
    assert bucketer_report(FrameCounts(), 5, 1, ("bucketed",)).endswith(", lag 5, no topic 'bucketed'")
    assert bucketer_report(FrameCounts(), None, 1, ("feed",)).endswith("rejected, no topic 'feed'")
    assert bucketer_report(FrameCounts(), None, 1).endswith(", no answer from the broker")
