import json
import random
from collections import defaultdict

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unique_users.bucketer.rekey import Rekeyed, Rekeyer
from unique_users.event_time.buckets import bucket_timestamp
from unique_users.event_time.stream_clock import StreamClock
from unique_users.messages.bucketed import COMBINED_BYTES_MAX, users_by_bucket
from unique_users.messages.frame import Reason
from unique_users.messages.frame_parser import FrameParser
from unique_users.messages.frame_totals import FrameTotals
from unique_users.messages.user_ids import UID_BYTES_MAX

NOW = 1_468_244_384
MINUTE = 1_468_244_340
DAY = 86_400
KEY = b"%d" % MINUTE
MESSAGE_BYTES_MAX = 1_048_588  # what a topic takes by default


def clock_at(ts: int) -> StreamClock:
    clock = StreamClock(DAY)
    clock.admit([ts] * 202)
    return clock


def frame(uid: str, ts: int = NOW) -> bytes:
    return json.dumps({"uid": uid, "ts": ts, "x": "y" * 50}).encode()


def rekeyed(frames: list[bytes | None], *, combine: bool = True, clock: StreamClock | None = None) -> Rekeyed:
    rekeyer = Rekeyer(FrameParser(), 3_600, combine=combine)
    return rekeyer.rekey(frames, [NOW * 1000] * len(frames), clock or StreamClock(DAY))


def plain(uid: str) -> bytes:
    return orjson.dumps({"uid": uid, "ts": NOW})


def combined(*uids: str) -> bytes:
    return orjson.dumps({"uids": uids})


def test_each_minute_of_a_batch_becomes_one_record_with_its_distinct_users() -> None:
    """minute      1468244340          1468244400
    frames     a ... b ... a |         ü ... a
    """
    frames = [frame("a"), frame("ü", NOW + 60), frame("b", NOW - 1), frame("a", NOW + 1), frame("a", NOW + 61)]
    batch = rekeyed(list(frames))
    assert batch.keys == [b"1468244340", b"1468244400"]
    assert batch.values == [b'{"uids":["a","b"]}', '{"uids":["ü","a"]}'.encode()]
    assert batch.counts() == FrameTotals(5, 5)


def test_no_frames_are_no_records() -> None:
    assert rekeyed([]) == ([], [], None, [], 0)


def test_what_is_rejected_is_rejected_as_without_combining() -> None:
    frames = [frame("a"), b"{", frame("b", NOW - DAY - 1), None, frame("c", NOW + 3_601), frame("a")]
    with_it = rekeyed(list(frames), clock=clock_at(NOW))
    without = rekeyed(list(frames), clock=clock_at(NOW), combine=False)
    assert with_it.rejected == without.rejected
    assert [r.reason for r in with_it.rejected] == [Reason.NOT_JSON, Reason.TOMBSTONE, Reason.FUTURE, Reason.LATE]
    assert with_it.counts() == without.counts()
    assert with_it.values == [combined("a")]


uids = st.text(min_size=1, max_size=20).filter(lambda uid: uid.isprintable())
frames = st.lists(st.tuples(uids, st.integers(NOW - 600, NOW + 600)), max_size=60)


@settings(max_examples=100)
@given(frames, st.lists(st.booleans(), min_size=10, max_size=10))
def test_the_users_are_the_same_with_and_without_and_in_any_mixture(
    frames: list[tuple[str, int]], choices: list[bool]
) -> None:
    expected = defaultdict(set)
    for uid, ts in frames:
        expected[bucket_timestamp(ts)].add(uid)
    keys: list[bytes] = []
    values: list[bytes] = []
    for part, combine in enumerate(choices):
        batch = rekeyed([frame(*x) for x in frames[part::10]], combine=combine)
        keys += batch.keys
        values += batch.values
    users = users_by_bucket(keys, values)
    assert {bucket: set(found) for bucket, found in users.by_bucket.items()} == expected
    assert users.unreadable == 0


@pytest.mark.parametrize(
    "uids",
    [
        [f"{n:019x}" for n in range(40_000)],
        [f"{n:04}" + "\x01" * (UID_BYTES_MAX - 4) for n in range(1_000)],
        ["{" * 100 + f"{n}" for n in range(10_000)],
    ],
    ids=["many", "escaped to six times their size", "with braces"],
)
def test_a_record_that_would_be_too_large_is_split(uids: list[str]) -> None:
    shuffled = random.Random(5).sample(uids, len(uids))
    batch = rekeyed([frame(uid) for uid in shuffled * 2])
    assert len(batch.values) > 1
    assert batch.keys == [KEY] * len(batch.values)
    assert max(map(len, batch.values)) <= COMBINED_BYTES_MAX < MESSAGE_BYTES_MAX // 2
    assert batch.counts().accepted == 2 * len(uids)
    users = users_by_bucket(batch.keys, batch.values).by_bucket
    assert sorted(users[MINUTE]) == sorted(uids), "each once"


@pytest.mark.parametrize(
    "value",
    [None, b"", b'{"uids":', b'{"uids":1}', b'{"uids":null}', b'{"uids":[1]}', b'{"uids":["a",null]}', b'{"uids":"a"}'],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_record_of_another_program_is_counted_once_as_unreadable(value: bytes | None, place: int) -> None:
    values: list[bytes | None] = [combined("a", "b"), plain("c")]
    values.insert(place, value)
    users = users_by_bucket([KEY] * 3, values)
    assert users.by_bucket == {MINUTE: ["a", "b", "c"]}
    assert users.unreadable == 1


def test_a_record_with_a_key_of_another_program_is_counted_once_whatever_it_holds() -> None:
    users = users_by_bucket([b"61", KEY, None], [combined("a", "b", "c"), combined("d"), plain("e")])
    assert users.by_bucket == {MINUTE: ["d"]}
    assert users.unreadable == 2


def test_a_record_without_users_makes_no_bucket() -> None:
    assert users_by_bucket([KEY], [combined()]) == ({}, 0)
