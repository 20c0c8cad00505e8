import json
from collections import defaultdict

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unique_users.bucketer.rekey import Rekeyer
from unique_users.event_time.buckets import bucket_timestamp, iso_time
from unique_users.event_time.stream_clock import BLOCK, StreamClock
from unique_users.messages.bucketed import users_by_bucket
from unique_users.messages.frame import Reason
from unique_users.messages.frame_parser import FrameParser
from unique_users.messages.frame_totals import FrameTotals

NOW = 1_468_244_384
MINUTE = 1_468_244_340
DAY = 86_400


def rekeyer(future_seconds_max: int = 3_600) -> Rekeyer:
    return Rekeyer(FrameParser(), future_seconds_max)


def clock_at(ts: int) -> StreamClock:
    clock = StreamClock(DAY)
    clock.admit([ts] * 202)
    return clock


def frame(uid: str, ts: int) -> bytes:
    return json.dumps({"uid": uid, "ts": ts, "x": "y" * 50}).encode()


def entry(uid: str) -> bytes:
    return orjson.dumps({"uid": uid, "ts": NOW})


def test_a_frame_becomes_a_record_keyed_by_its_minute() -> None:
    rekeyed = rekeyer().rekey([frame("ü", NOW)], [NOW * 1000], StreamClock(DAY))
    assert rekeyed.keys == [b"1468244340"]
    assert rekeyed.values == ['{"uid":"ü","ts":1468244384}'.encode()]
    assert rekeyed.rejected == []


uids = st.text(min_size=1, max_size=20).filter(lambda uid: uid.isprintable())
frames = st.lists(st.tuples(uids, st.integers(NOW - 600, NOW + 600)), max_size=60)


@settings(max_examples=50)
@given(frames)
def test_users_come_back_in_the_buckets_of_their_frames(frames: list[tuple[str, int]]) -> None:
    expected = defaultdict(list)
    for uid, ts in frames:
        expected[bucket_timestamp(ts)].append(uid)
    rekeyed = rekeyer().rekey([frame(*x) for x in frames], [NOW * 1000] * len(frames), StreamClock(DAY))
    users = users_by_bucket(rekeyed.keys, rekeyed.values)
    assert users.by_bucket == expected
    assert users.unreadable == 0


anything = st.one_of(
    st.just(frame("u", NOW)),
    st.just(frame("u", 1)),
    st.just(frame("u", NOW + 10 * DAY)),
    st.sampled_from([None, b"", b"{", b"[]", b"{}", b'{"uid":"","ts":1}', b'{"uid":"u"}', b'{"uid":"u","ts":"x"}']),
    st.binary(max_size=20),
)


@settings(max_examples=80)
@given(st.lists(anything, max_size=300), st.booleans())
def test_every_frame_is_accepted_or_rejected_once(frames: list[bytes | None], judges: bool) -> None:  # noqa: FBT001
    clock = clock_at(NOW) if judges else StreamClock(DAY)
    rekeyed = rekeyer().rekey(frames, [NOW * 1000] * len(frames), clock)
    counts = rekeyed.counts()
    assert len(frames) <= counts.read == counts.accepted + counts.rejected.total()  # two JSON values are two frames
    assert counts.accepted == len(rekeyed.keys) == len(rekeyed.values)
    assert counts.rejected.total() == len({(rejected.place, rejected.element) for rejected in rekeyed.rejected})
    good = frame("u", NOW)
    assert not any(frames[rejected.place] == good for rejected in rekeyed.rejected)


def test_reasons_are_counted_and_places_name_the_frames() -> None:
    clock = clock_at(NOW)
    batch = [frame("a", NOW), b"{", frame("b", NOW - DAY - 1), None, frame("c", NOW + 3_601), frame("d", NOW - DAY)]
    rekeyed = rekeyer().rekey(batch, [NOW * 1000] * 6, clock)
    assert sorted((rejected.place, rejected.reason) for rejected in rekeyed.rejected) == [
        (1, Reason.NOT_JSON),
        (2, Reason.LATE),
        (3, Reason.TOMBSTONE),
        (4, Reason.FUTURE),
    ]
    assert [orjson.loads(value)["uid"] for value in rekeyed.values] == ["a", "d"]
    assert rekeyed.counts() == FrameTotals(6, 2, rekeyed.counts().rejected)
    assert rekeyed.counts().rejected == {"not_json": 1, "tombstone": 1, "late": 1, "future": 1}


def test_the_future_begins_after_the_records_own_time_and_not_for_records_without_one() -> None:
    """With 1 hour:  record ------ 1 h ------> | the future."""
    times = [NOW + 3_600, NOW + 3_601, NOW + 3_601, NOW + 10**9]
    timestamps = [NOW * 1000, NOW * 1000, NOW * 1000 + 1_000, -1]
    rekeyed = rekeyer().rekey([frame("u", ts) for ts in times], timestamps, StreamClock(DAY))
    assert [rejected.place for rejected in rekeyed.rejected] == [1]


def test_a_rejected_time_does_not_move_the_clock() -> None:
    clock = clock_at(NOW)
    future = [frame("u", NOW + 5 * DAY)] * 1_000
    assert len(rekeyer().rekey(future, [NOW * 1000] * 1_000, clock).rejected) == 1_000
    assert clock.now() == NOW


def test_counts_add_up_and_print_what_was_rejected() -> None:
    first = FrameTotals(3, 1)
    first.rejected.update({"late": 2})
    second = FrameTotals(1_001, 1_000)
    second.rejected.update({"bad_ts": 1})
    assert str(first + second) == "1,004 frames read = 1,001 accepted + 3 rejected (bad_ts 1, late 2)"
    assert str(FrameTotals()) == "0 frames read = 0 accepted + 0 rejected"
    assert first == FrameTotals(3, 1, first.rejected), "adding changes neither"


KEY = b"%d" % MINUTE


@pytest.mark.parametrize(
    "value",
    [None, b"", b"x", b"{}", b"[]", b"null", b'{"uid":1}', b'{"uid":null}', b'"uid"', b'{"uid":"\xff"}', b"[" * 10_000],
)
def test_a_value_of_another_program_is_counted_as_unreadable(value: bytes | None) -> None:
    users = users_by_bucket([KEY, KEY, KEY], [entry("a"), value, entry("b")])
    assert users.by_bucket == {MINUTE: ["a", "b"]}
    assert users.unreadable == 1


@pytest.mark.parametrize(
    "key", [None, b"", b"x", b"-60", b"+60", b" 60", b"6_0", b"61", b"60.0", b"\xff", "٦٠".encode()]
)
def test_a_key_of_another_program_is_counted_as_unreadable(key: bytes | None) -> None:
    users = users_by_bucket([KEY, key, key], [entry("a"), entry("b"), entry("c")])
    assert users.by_bucket == {MINUTE: ["a"]}
    assert users.unreadable == 2


def test_a_key_with_leading_zeros_takes_no_users_from_the_bucket_it_looks_like() -> None:
    users = users_by_bucket([KEY, b"0" + KEY], [entry("a"), entry("b")])
    assert "a" in users.by_bucket[MINUTE]


@pytest.mark.parametrize("key", [b"9" * 17 + b"60", b"6" + b"0" * 5_000], ids=["far beyond 9999", "5,001 digits"])
def test_a_key_beyond_the_year_9999_is_unreadable(key: bytes) -> None:
    users = users_by_bucket([KEY, key], [entry("a"), entry("b")])
    assert users.by_bucket == {MINUTE: ["a"]}
    assert users.unreadable == 1
    assert [iso_time(bucket) for bucket in users.by_bucket] == ["2016-07-11T13:39:00Z"]


def test_two_values_that_make_sense_only_together_are_unreadable() -> None:
    halves = [b'{"uid":"a"},{"uid":"b"', b'"x":1}']
    users = users_by_bucket([KEY, KEY], halves)
    assert users.by_bucket == {}
    assert users.unreadable == 2


def test_no_records_are_no_users() -> None:
    assert users_by_bucket([], []) == ({}, 0)


def test_what_was_late_stays_late_with_more_allowed_lateness_and_says_since_when() -> None:
    clock = StreamClock(100)
    clock.admit([5_000] * BLOCK)
    wider = StreamClock.from_metadata(4_000, clock.to_metadata())
    rekeyed = rekeyer().rekey([b'{"uid":"a","ts":4899}'], [5_000_000], wider)
    (rejected,) = rekeyed.rejected
    assert rejected.detail == (
        "1970-01-01T01:21:39Z is before 1970-01-01T01:21:40Z, the earliest time that is still accepted;"
        " the stream is at 1970-01-01T01:23:20Z"
    )
