"""The judge of the fault matrix is not asleep: whatever a fault could do to a count, or to an estimate, is found."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from topics_on_broker import Record
from verdict import published_counts, weigh, went_down, with_closed, wrong_sketches

from unique_users.aggregation.completeness import Why
from unique_users.aggregation.counts import Count, Estimate, users_in
from unique_users.aggregation.sketches import Sketch
from unique_users.config.schema import Config
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.messages.counts import encode_count, key_of
from unique_users.messages.frame_totals import FrameTotals
from unique_users.queries.recount import Recount

HOUR, DAY = Bucket("hour", 1_704_063_600), Bucket("day", 1_704_067_200 - 86_400)
USERS = [f"user-{number}" for number in range(3_000)]

Counts = Mapping[Bucket, Count]


def counts_of(users: list[str]) -> dict[Bucket, Count]:
    """Of an hour, exactly, and of the day that holds it, as an estimate: as an undisturbed run says it."""
    truth = Recount({HOUR.start: set(users)}, FrameTotals())
    buckets = truth.buckets(["hour", "day"], Calendar(), ["day"])
    return {Bucket(bucket.interval, bucket.start): bucket.total for bucket in buckets}


def bounds_moved(counts: Counts) -> Counts:
    users, lower, upper = Estimate._make(counts[DAY])  # type: ignore[arg-type]
    return {**counts, DAY: Estimate(users, lower, upper + 1)}


def test_the_counts_of_an_undisturbed_run_pass() -> None:
    verdict = weigh(counts_of(USERS), {"live": counts_of(USERS), "rebuilt": counts_of(USERS[::-1])})
    assert verdict == (0, 0, [])


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda counts: {**counts, HOUR: len(USERS) - 1}, id="a user is lost"),
        pytest.param(lambda counts: {**counts, DAY: counts_of(USERS[:-20])[DAY]}, id="users are lost in a sketch"),
        pytest.param(lambda counts: {**counts, DAY: counts_of([*USERS, *"abcde"])[DAY]}, id="a sketch has too many"),
        pytest.param(bounds_moved, id="bounds are others"),
        pytest.param(lambda counts: {**counts, DAY: users_in(counts[DAY])}, id="an estimate without bounds"),
        pytest.param(lambda counts: {HOUR: counts[HOUR]}, id="a bucket is missing"),
        pytest.param(lambda counts: {**counts, Bucket("hour", 0): 1}, id="a bucket is too many"),
        pytest.param(lambda counts: {**counts, Bucket("hour", 0): 0}, id="a bucket without users"),
    ],
)
def test_a_view_that_differs_does_not_pass(spoil: Callable[[Counts], Counts]) -> None:
    right = counts_of(USERS)
    verdict = weigh(right, {"live": right, "published": spoil(right)})
    assert [problem.partition(":")[0] for problem in verdict.problems] == ["published"]


def test_nothing_compared_does_not_pass() -> None:
    right = counts_of(USERS)
    assert weigh({}, {"live": {}}).problems
    assert weigh(right, {}).problems
    assert not weigh({}, {"live": {}}, empty=True).problems
    assert weigh(right, {"live": right}, empty=True).problems


def test_users_lost_and_extra_are_summed_over_buckets_in_the_worst_view() -> None:
    right, few, many = counts_of(USERS), counts_of(USERS[:-500]), counts_of([*USERS, *"abc"])
    verdict = weigh(right, {"live": few, "rebuilt": right, "published": many})
    assert verdict.lost == 500 + users_in(right[DAY]) - users_in(few[DAY])
    assert verdict.extra == 3 + users_in(many[DAY]) - users_in(right[DAY])


def test_a_state_may_lack_what_is_past_its_retention_and_nothing_else() -> None:
    keeps = Config().counter.retention_seconds - Config().bucketer.allowed_lateness_seconds
    right = counts_of(USERS)

    def lacking(bucket: Bucket, low_watermark: int | None) -> Counts:
        system: Any = SimpleNamespace(config=Config(), low_watermark=lambda: low_watermark)
        return with_closed(system, right, {other: count for other, count in right.items() if other != bucket})

    end = HOUR.start + 3600 + keeps
    assert lacking(HOUR, end) == right
    assert lacking(HOUR, end - 60) == lacking(HOUR, None) == {DAY: right[DAY]}
    assert lacking(DAY, HOUR.start + 3600 + keeps - 60) == {HOUR: right[HOUR]}, "a day that is not over"


def published(users: list[str], sketch: Sketch) -> Record:
    """The record of the day's estimate of these users with a sketch."""
    key, value = encode_count(DAY, 0, counts_of(users)[DAY], Calendar(), sketch.to_bytes())
    return Record(0, 0, 0, key, value, {})


def test_a_published_sketch_must_be_the_one_of_its_estimate() -> None:
    whole, behind = Sketch(), Sketch()
    whole.add(USERS)
    behind.add(USERS[:-1])
    right = published(USERS, whole)
    assert published_counts([right]) == {DAY: counts_of(USERS)[DAY]}
    assert wrong_sketches([right.value]) == []
    assert len(wrong_sketches([right.value, published(USERS, behind).value])) == 1


OLD, NEW, AGAIN = "20260101T120000Z-aaaaaaaa", "20260301T120000Z-bbbbbbbb", "20260501T120000Z-bbbbbbbb"


def count(users: int, generation: str, *why: Why) -> tuple[bytes, bytes | None]:
    return encode_count(HOUR, 0, users, Calendar(), generation=generation, why=why)


def test_a_published_count_goes_down_by_a_stated_reset_alone() -> None:
    assert len(went_down([count(3, NEW), count(2, NEW), count(4, NEW)])) == 1
    assert len(went_down([count(3, NEW), count(2, AGAIN)])) == 1, "a state that was lost and is whole"
    assert len(went_down([count(3, OLD), count(2, NEW), count(1, NEW)])) == 1
    assert len(went_down([count(3, NEW), (key_of(HOUR, 1), None), count(2, NEW)])) == 1, "of another key"
    assert went_down([count(3, NEW), (key_of(HOUR, 0), None), count(2, NEW), count(2, NEW)]) == []
    assert went_down([count(3, OLD), count(2, NEW), count(3, OLD)]) == [], "another topic"
    lost = count(2, AGAIN, Why.STATE_LOST)
    assert went_down([count(3, NEW), lost, lost]) == []
    assert len(went_down([count(3, AGAIN, Why.STATE_LOST), lost])) == 1
