import json

import pytest
from brokers import config_for

from unique_users.errors import InputError
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.queries.recount import Difference, FirstRejected, differences, recount, require_accepted
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
    assert result.first_rejected == FirstRejected(
        10_001, "future", "7200 s ahead of its record", frames[10_000], whole=True
    )
    assert recount(frames[:10_000], CONFIG, MINUTE * 1000).first_rejected is None


def test_frames_of_which_none_is_accepted_cannot_be_compared_and_show_the_first() -> None:
    frames = [b"BZh9\x17\n\x1b[2J" + b"x" * 100, *([b"[]"] * 4_999)]
    with pytest.raises(InputError) as error:
        require_accepted(recount(frames, CONFIG, MINUTE * 1000), "stream.gz", 2)
    shown = "b'BZh9\\x17\\n\\x1b[2J" + "x" * 70 + "'…"
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
