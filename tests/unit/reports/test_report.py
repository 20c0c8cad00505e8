import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unique_users.messages.frame import Reason
from unique_users.messages.frame_totals import FrameTotals
from unique_users.reports.bucket_count import BucketCount
from unique_users.reports.folding import COLUMNS, folded
from unique_users.reports.meter import Meter, Reading
from unique_users.reports.report import BucketerReport, CounterReport, ProducerReport, Report

MINUTE = 1_468_244_340
AT = "2016-07-11T13:39:00Z"
REASONS = sorted(reason.value for reason in Reason)


def test_a_bucket_is_one_line_for_people() -> None:
    line = BucketCount(MINUTE, 46_543, 1_203).line("text")
    assert line == "2016-07-11T13:39:00Z  minute  46,543 unique users  +1,203"


def test_a_bucket_is_one_json_line_for_programs() -> None:
    line = BucketCount(MINUTE, 46_543, 1_203).line("json")
    assert line == '{"interval":"minute","start":"2016-07-11T13:39:00Z","unique_users":46543,"new":1203}'


def of_producer(**rest: Any) -> ProducerReport:
    return ProducerReport(**{"at": MINUTE, "reading": Reading(0, 0, 0), **rest})


def of_bucketer(**rest: Any) -> BucketerReport:
    facts = {"at": MINUTE, "reading": Reading(0, 0, 0), "lag": 0, "partitions": (0,), "of": 1, **rest}
    return BucketerReport(**facts)


def of_counter(**rest: Any) -> CounterReport:
    facts = {"at": MINUTE, "reading": Reading(0, 0, 0), "lag": 0, "partitions": (0,), "of": 1, "buckets_changed": 0}
    return CounterReport(**{**facts, **rest})


FRAMES = FrameTotals(30_000, 29_990, Counter({"late": 7, "bad_ts": 3}))
READ = Reading(30_000, 5_000, 250)


def test_all_three_say_the_same_things_in_the_same_order() -> None:
    """Rate, total, new since the last report; then what is left; then what became of the frames."""
    assert of_producer(reading=READ, frames=FRAMES, blank_lines=2).lines("text") == [
        f"{AT}  report  250/s, 30,000 frames read (+5,000), 2 blank lines",
        f"{AT}  frames  30,000 read = 29,990 sent + 10 rejected",
        f"{AT}  frames  rejected: bad_ts 3, late 7",
    ]
    assert of_bucketer(reading=READ, frames=FRAMES, lag=2_000).lines("text") == [
        f"{AT}  report  250/s, 30,000 frames read (+5,000), lag 2,000",
        f"{AT}  frames  30,000 read = 29,990 accepted + 10 rejected",
        f"{AT}  frames  rejected: bad_ts 3, late 7",
    ]
    assert of_counter(reading=READ, frames=FRAMES, lag=2_000, buckets_changed=3, feed_lag=500).lines("text") == [
        f"{AT}  report  250/s, 30,000 messages read (+5,000)",
        f"{AT}  report  3 buckets changed, lag 2,000, feed lag 500",
        f"{AT}  frames  30,000 read = 29,990 counted + 10 rejected",
        f"{AT}  frames  rejected: bad_ts 3, late 7",
    ]


def test_all_three_have_the_same_names_in_json() -> None:
    frames = {"read": 30_000, "accepted": 29_990, "rejected": {"bad_ts": 3, "late": 7}}
    common = {"report": AT, "per_second": 250, "read": 30_000, "new": 5_000, "frames": frames}
    assert as_json(of_producer(reading=READ, frames=FRAMES)) == {**common, "blank_lines": 0}
    left = {"lag": 7, "partitions": [1, 3], "of": 4, "broker_answers": True, "missing": [], "in_transactions": 0}
    share = {"lag": 7, "partitions": (1, 3), "of": 4}
    assert as_json(of_bucketer(reading=READ, frames=FRAMES, **share)) == {**common, **left}
    known = {"buckets_changed": 2, "unreadable": 3, "feed_lag": 11, "feed_behind_seconds": 0.5}
    assert as_json(of_counter(reading=READ, frames=FRAMES, **share, **known)) == {**common, **left, **known}


def as_json(report: Report) -> dict[str, Any]:
    (line,) = report.lines("json")
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_report_is_there_also_when_nothing_came() -> None:
    nothing = [f"{AT}  report  0/s, 0 messages read (+0)", f"{AT}  report  0 buckets changed, lag 0"]
    assert of_counter().lines("text") == nothing
    assert of_bucketer(frames=FrameTotals()).lines("text") == [f"{AT}  report  0/s, 0 frames read (+0), lag 0"]


def test_a_report_says_when_the_broker_does_not_answer_and_what_was_left_out() -> None:
    away = of_counter(lag=None, unreadable=3_000, feed_lag=30_000, feed_behind_seconds=12.4)
    assert away.lines("text")[1:] == [
        f"{AT}  report  0 buckets changed, no answer from the broker",
        f"{AT}  report  feed lag 30,000 (12 s)",
        f"{AT}  report  3,000 unreadable messages skipped",
    ]
    assert (as_json(away)["lag"], as_json(away)["broker_answers"]) == (None, False)


def test_topics_that_are_gone_are_named_and_their_lag_is_not_0() -> None:
    gone = of_counter(lag=None, missing=("bucketed", "counts"))
    assert gone.lines("text")[1:] == [
        f"{AT}  report  0 buckets changed, no topic 'bucketed'",
        f"{AT}  report  no topic 'counts'",
    ]
    told = as_json(gone)
    assert (told["lag"], told["missing"], told["broker_answers"]) == (None, ["bucketed", "counts"], True)
    assert of_bucketer(lag=None, missing=("feed",)).lines("text")[0].endswith("read (+0), no topic 'feed'")


@pytest.mark.parametrize("made", [of_bucketer, of_counter])
def test_a_report_says_of_which_partitions_it_speaks_when_these_are_not_all(made: Any) -> None:
    assert made(partitions=(1, 3), of=4).lines("text")[-1].endswith(" partitions 1 3 of 4")
    assert made(partitions=(2,), of=4).lines("text")[-1].endswith("lag 0, partition 2 of 4")
    assert made(partitions=(0, 1), of=2).lines("text")[-1].endswith("lag 0")
    assert made(partitions=(), of=None).lines("text")[-1].endswith("lag 0, no partition")


def test_a_report_that_was_parsed_is_the_one_that_was_printed() -> None:
    for report in (of_counter(), of_counter(reading=READ, frames=FRAMES, feed_lag=5, feed_behind_seconds=1.5)):
        assert CounterReport.parsed(as_json(report)) == report


def test_the_rate_is_that_since_the_last_report() -> None:
    times = iter([0.0, 10.0, 14.0, 14.0])
    meter = Meter(lambda: next(times))
    assert meter.read(1_000) == Reading(1_000, 1_000, 100)
    assert meter.read(1_200) == Reading(1_200, 200, 50)
    assert meter.read(1_200) == Reading(1_200, 0, 0)


numbers = st.integers(0, 10**12)
readings = st.builds(Reading, numbers, numbers, st.integers(0, 10**7))
frames = st.builds(
    FrameTotals, numbers, numbers, st.dictionaries(st.sampled_from(REASONS), numbers, min_size=1).map(Counter)
)
shares = st.builds(
    lambda held, others: {"partitions": tuple(sorted(held)), "of": len(held) + others},
    st.sets(st.integers(0, 999), max_size=300),
    numbers,
)
left = {
    "lag": st.none() | numbers,
    "missing": st.lists(st.sampled_from(["feed", "bucketed", "counts", "rejected"]), unique=True).map(tuple),
    "share": shares,
}


def bucketers(lag: int | None, share: dict[str, Any], **rest: Any) -> BucketerReport:
    return of_bucketer(lag=lag, **share, **rest)


def counters(lag: int | None, share: dict[str, Any], **rest: Any) -> CounterReport:
    return of_counter(lag=lag, **share, **rest)


@given(
    report=st.builds(of_producer, reading=readings, frames=frames, blank_lines=numbers)
    | st.builds(bucketers, reading=readings, frames=frames, **left)
    | st.builds(
        counters,
        reading=readings,
        frames=st.none() | frames,
        buckets_changed=numbers,
        unreadable=numbers,
        feed_lag=numbers,
        feed_behind_seconds=st.none() | st.floats(0, 1e9),
        **left,
    )
)
def test_no_line_is_wider_than_a_terminal_and_all_begin_alike(report: Report) -> None:
    lines = report.lines("text")
    assert max(map(len, lines)) <= COLUMNS
    assert all(line.startswith((f"{AT}  report  ", f"{AT}  frames  ")) for line in lines)
    assert not any("\N{NO-BREAK SPACE}" in line or line.endswith((" ", ",")) for line in lines)
    assert "".join(lines).isascii()


def test_what_cannot_be_folded_stands_alone() -> None:
    assert folded("> ", f"a, {'b' * 100}, c") == ["> a", f"> {'b' * 100}", "> c"]
