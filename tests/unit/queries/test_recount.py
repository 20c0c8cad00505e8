import json
from collections import Counter

import pytest
from brokers import config_for

from unique_users.errors import InputError
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.messages.frame import CutLine
from unique_users.messages.frame_totals import FrameTotals
from unique_users.messages.merged_counts import PublishedBucket
from unique_users.queries.comparison import (
    Difference,
    Verdict,
    accepted_words,
    differences,
    no_longer_kept,
    within_time,
)
from unique_users.queries.recount import FirstRejected, recount, require_accepted
from unique_users.reports.bucket_count import BucketCount

MINUTE = 1_468_244_340


def frame(uid: str, ts: float | str) -> bytes:
    return json.dumps({"uid": uid, "ts": ts}).encode()


FRAMES = [
    frame("a", MINUTE),
    frame("b", MINUTE + 59),
    frame("a", MINUTE + 30),
    frame("a", str(MINUTE + 60)),
    b"{",
    frame("c", MINUTE - 1),
    frame("", MINUTE),
    frame("d", MINUTE + 7_200),
]
CONFIG = config_for("localhost:9092")


def test_users_of_a_minute_are_counted_once_and_bad_frames_by_reason() -> None:
    """minute   13:38   13:39   13:40   | the future
    users         c     a b a     a     |   d
    """
    result = recount(FRAMES, CONFIG, MINUTE * 1000)
    assert result.users == {MINUTE - 60: {"c"}, MINUTE: {"a", "b"}, MINUTE + 60: {"a"}}
    assert result.buckets() == [
        BucketCount(MINUTE - 60, 1, 1),
        BucketCount(MINUTE, 2, 2),
        BucketCount(MINUTE + 60, 1, 1),
    ]
    assert (result.counts.read, result.counts.accepted) == (8, 5)
    assert result.counts.rejected == {"not_json": 1, "bad_uid": 1, "future": 1}


def test_the_rules_come_from_the_configuration() -> None:
    config = config_for(
        "h:1", bucketer={"allowed_lateness_seconds": 60}, frame={"uid": "who", "ts": "when", "ts_unit": "ms"}
    )
    frames = [json.dumps({"who": "u", "when": MINUTE * 1000}).encode()] * 101
    frames += [json.dumps({"who": "u", "when": (MINUTE - after) * 1000}).encode() for after in (60, 61)]
    result = recount(frames, config, MINUTE * 1000)
    assert result.counts.rejected == {"late": 1}
    assert {start: len(users) for start, users in result.users.items()} == {MINUTE: 1, MINUTE - 60: 1}


def test_many_frames_are_counted() -> None:
    frames = [frame(f"u{n % 7_000}", MINUTE) for n in range(25_000)]
    result = recount(iter(frames), CONFIG, MINUTE * 1000)
    assert len(result.users[MINUTE]) == 7_000
    assert result.counts.read == 25_000


def test_nothing_counts_nothing() -> None:
    assert recount([], CONFIG, 0).buckets() == []


def test_the_first_rejected_frame_is_remembered_whatever_it_was_rejected_for() -> None:
    """frame   1 2 3 … 10,000   10,001   10,002   10,003
    why       accepted        future   not_json  bad_uid
    """
    frames = [frame("a", MINUTE)] * 10_000 + [frame("d", MINUTE + 7_200), b"{", frame("", MINUTE)]
    result = recount(frames, CONFIG, MINUTE * 1000)
    assert result.first_rejected[0] == FirstRejected(10_001, "future", "7200 s ahead of its record", frames[10_000])
    assert [(first.number, first.reason) for first in result.first_rejected] == [
        (10_001, "future"),
        (10_002, "not_json"),
        (10_003, "bad_uid"),
    ]
    assert result.other_fields is None
    assert recount(frames[:10_000], CONFIG, MINUTE * 1000).first_rejected == ()


def test_a_line_too_long_to_keep_is_named_by_its_whole_length() -> None:
    result = recount([CutLine(b'{"uid":"a"', 9_000_000)], CONFIG, MINUTE * 1000)
    (first,) = result.first_rejected
    assert (first.reason, first.detail) == ("too_large", "a line of 9000000 bytes")


def test_frames_of_which_none_is_accepted_cannot_be_compared_and_show_the_first() -> None:
    frames = [b"BZh9\x17\n\x1b[2J" + b"x" * 100, *([b"[]"] * 4_999)]
    with pytest.raises(InputError) as error:
        require_accepted(recount(frames, CONFIG, MINUTE * 1000), "stream.gz", 2)
    shown = ": BZh9\\x17\\x0a\\x1b[2J" + "x" * 70 + "…"
    said = str(error.value)
    assert said.startswith("no frame of stream.gz was accepted: 5,000 rejected; the first, line 3: not_json: ")
    assert said.endswith(shown)
    assert said.isprintable()


def test_a_file_without_frames_cannot_be_compared() -> None:
    with pytest.raises(InputError, match=r"^stream\.gz is empty, there is nothing to compare: "):
        require_accepted(recount([], CONFIG, 0), "stream.gz", 0)


def test_one_accepted_frame_can_be_compared() -> None:
    require_accepted(recount(FRAMES, CONFIG, MINUTE * 1000), "stream.gz", 0)


def test_differences_name_wrong_missing_and_extra_buckets() -> None:
    result = recount(FRAMES, CONFIG, MINUTE * 1000)
    before, here, after, last = (Bucket("minute", MINUTE + seconds) for seconds in (-60, 0, 60, 120))
    assert differences(result.buckets(), {before: 1, here: 2, after: 1}) == []
    found = differences(result.buckets(), {here: 3, after: 1, last: 1})
    assert found == [Difference(before, 0, 1), Difference(here, 3, 2), Difference(last, 1, 0)]
    assert found[1].line("text", Calendar()) == "2016-07-11T13:39:00Z  minute  published 3  recounted 2"
    assert json.loads(found[1].line("json", Calendar())) == {
        "interval": "minute",
        "start": "2016-07-11T13:39:00Z",
        "published": 3,
        "recounted": 2,
    }


def test_wide_buckets_hold_the_users_of_their_minutes_once() -> None:
    result = recount([*FRAMES, frame("e", MINUTE + 1_260)], CONFIG, MINUTE * 1000)
    assert result.buckets(["hour", "day"], Calendar("Europe/Berlin")) == [
        BucketCount(MINUTE - 39 * 60, 3, 3, "hour"),
        BucketCount(MINUTE + 21 * 60, 1, 1, "hour"),
        BucketCount(1_468_188_000, 4, 4, "day"),
    ]


def test_published_buckets_are_compared_within_the_time_of_the_file() -> None:
    """minute      -120  -60   0   60   120  180 …
    the file              c    ab  a
    published      1      1    2   1    1    1
    """
    buckets = recount(FRAMES, CONFIG, MINUTE * 1000).buckets()
    published = {Bucket("minute", MINUTE + seconds): PublishedBucket(1) for seconds in (-120, -60, 0, 60, 120, 180)}
    published[Bucket("hour", MINUTE)] = PublishedBucket(1)
    within = within_time(published, buckets)
    assert [bucket.start - MINUTE for bucket in within] == [-60, 0, 60]


def test_a_bucket_missing_in_the_middle_of_the_file_is_compared() -> None:
    buckets = recount([frame("a", MINUTE), frame("a", MINUTE + 120)], CONFIG, MINUTE * 1000).buckets()
    between = Bucket("minute", MINUTE + 60)
    assert list(within_time({between: PublishedBucket(1)}, buckets)) == [between]


@pytest.mark.parametrize(
    ("verdict", "rejected", "said"),
    [
        (Verdict(0, 5), 0, "exact: no bucket differs"),
        (Verdict(0, 5), 1, "exact: no bucket differs, counting the 99.9 % of the frames that were accepted"),
        (Verdict(1, 5), 0, "1 of 5 buckets differs"),
        (Verdict(31, 36), 0, "31 of 36 buckets differ"),
        (
            Verdict(0, 5, 1_031),
            0,
            "exact: no bucket differs; 1,031 published ones are outside the files' time: --all compares them",
        ),
    ],
)
def test_the_verdict_says_of_how_many_buckets_and_frames_it_is(verdict: Verdict, rejected: int, said: str) -> None:
    counts = FrameTotals(20_000, 20_000 - rejected, Counter({"no_uid": rejected} if rejected else {}))
    assert verdict.words(counts) == said


@pytest.mark.parametrize(
    ("read", "accepted", "share"), [(3, 2, "66.6 %"), (3, 0, "0.0 %"), (100_000, 99_999, "99.9 %"), (8, 7, "87.5 %")]
)
def test_the_share_of_the_accepted_frames_is_said_and_rounded_down(read: int, accepted: int, share: str) -> None:
    counts = FrameTotals(read, accepted, Counter({"no_uid": read - accepted}))
    assert accepted_words(counts) == f"{counts}, {share} accepted"
    assert accepted_words(FrameTotals(3, 3)) == "3 frames read = 3 accepted + 0 rejected"


def test_what_is_too_old_to_be_published_is_not_compared() -> None:
    day = 86_400
    starts = [MINUTE - 11 * day, MINUTE - 10 * day - 60, MINUTE - 10 * day, MINUTE]
    recounted = [BucketCount(start, 1, 1) for start in starts] + [BucketCount(0, 1, 1, "day")]
    published = [Bucket("minute", MINUTE), Bucket("minute", starts[0])]
    gone = no_longer_kept(recounted, published, {"minute": 10, "hour": 0}, Calendar())
    assert gone == {Bucket("minute", starts[1])}, "the first is still there, the third should be"
    assert no_longer_kept(recounted, [], {"minute": 10}, Calendar()) == set()
    said = "exact: no bucket differs; 1 are older than counter.publish_keep_days and no longer published"
    assert Verdict(0, 2, gone=1).words(FrameTotals(3, 3)) == said


def test_a_frame_without_a_line_number_is_told_by_its_number() -> None:
    with pytest.raises(InputError, match=r"rejected; the first, frame 1: not_json: "):
        require_accepted(recount([b"{"], CONFIG, MINUTE * 1000), "array.json", None)
