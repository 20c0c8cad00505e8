"""Estimates depend on the set of users alone, never on the way it came about."""

import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("datasketches", reason="estimates need the package datasketches")

from unique_users.aggregation.counts import DamagedSketchError, Estimate, sketch_checksum
from unique_users.aggregation.sketches import LG_K, Sketch

# From a handful of users to more than the sketch has rows: each form that CPC has inside.
sizes = st.sampled_from([0, 1, 7, 300, 2_500, 30_000])
chance = st.integers(0, 2**32).map(Random)
histories = settings(max_examples=40)


def users(count: int, seed: int = 0) -> list[str]:
    random = Random(seed)
    return [f"{random.getrandbits(76):019x}" for _ in range(count)]


def sketch_of(uids: list[str]) -> Sketch:
    sketch = Sketch()
    sketch.add(uids)
    return sketch


def reopened(sketch: Sketch) -> Sketch:
    """As after a save and a restart."""
    data = sketch.to_bytes()
    return Sketch.from_bytes(data, sketch_checksum(data))


def same(one: Sketch, other: Sketch) -> bool:
    return one.estimate() == other.estimate() and one.to_bytes() == other.to_bytes()


@histories
@given(sizes, st.integers(0, 3), chance)
def test_order_and_repetition_change_nothing(size: int, seed: int, random: Random) -> None:
    uids = users(size, seed)
    again = uids + random.choices(uids, k=size // 2) if uids else []
    random.shuffle(again)
    assert same(sketch_of(again), sketch_of(uids))


@histories
@given(sizes, st.lists(st.sampled_from(["save", "read", "crash"]), min_size=1, max_size=6), chance)
def test_saves_reads_and_crashes_change_nothing(size: int, events: list[str], random: Random) -> None:
    """A crash loses what came since the last save; that is read and added again.

    added  ──────┬───────────┬─────────►
                 save        crash
                 ▲───────────┘ read again from here
    """
    uids = users(size)
    cuts = [*sorted(random.choices(range(size + 1), k=len(events))), size]
    saved, position, sketch = Sketch(), 0, Sketch()
    for event, cut in zip([*events, "save"], cuts, strict=True):
        sketch.add(uids[position:cut])
        if event == "crash":
            sketch = reopened(saved)
        elif event == "read":
            sketch.estimate()
            sketch.add(uids[position : position + 50])
            sketch.estimate()
            position = max(position, cut)
        else:
            position, saved = cut, reopened(sketch)
        if event != "save":
            sketch.add(uids[:position])
    sketch.add(uids)
    assert same(sketch, sketch_of(uids))


@histories
@given(sizes, sizes, st.integers(2, 5), chance)
def test_partitions_merge_to_the_sketch_of_all_users(size: int, shared: int, parts: int, random: Random) -> None:
    uids = users(size)
    partitions = [users(shared, seed=9) for _ in range(parts)]  # these stand in each of them
    for uid in uids:
        random.choice(partitions).append(uid)
    merged = Sketch()
    for partition in random.sample(partitions, k=parts):
        merged.merge(reopened(sketch_of(partition)))
    assert same(merged, sketch_of(uids + users(shared, seed=9)))


def test_a_sketch_goes_on_counting_after_it_was_merged_and_read() -> None:
    uids = users(40_000)
    sketch = sketch_of(uids[:10_000])
    sketch.merge(sketch_of(uids[5_000:20_000]))
    sketch.estimate()
    sketch.add(uids[15_000:])
    assert same(sketch, sketch_of(uids))


def test_an_estimate_with_its_bounds_never_goes_down() -> None:
    sketch, last = Sketch(), Estimate(0, 0, 0)
    for uid in users(60_000):
        if sketch.add([uid]):
            now = sketch.estimate()
            assert all(after >= before for after, before in zip(now, last, strict=True))
            last = now
    assert last.lower <= last.unique_users <= last.upper


def test_whether_a_sketch_changed_is_said_exactly() -> None:
    sketch = Sketch()
    for uid in users(20_000):
        before = sketch.to_bytes()
        assert sketch.add([uid]) == (sketch.to_bytes() != before)
    assert not sketch.add(users(20_000))


@pytest.mark.parametrize(("count", "apart"), [(1, 0), (10, 0), (100, 2)])
def test_a_handful_of_users_is_counted_almost_exactly(count: int, apart: int) -> None:
    assert abs(sketch_of(users(count)).estimate().unique_users - count) <= apart


def test_nobody_is_estimated_as_nobody() -> None:
    assert Sketch().estimate() == reopened(Sketch()).estimate() == Estimate(0, 0, 0)


def test_the_error_is_what_the_field_says_of_this_size() -> None:
    """20 sketches of 100,000 users: rms within 1.5 %, where 1.08 % is expected."""
    count = 100_000
    errors = [sketch_of(users(count, seed)).estimate().unique_users / count - 1 for seed in range(20)]
    assert math.sqrt(sum(error * error for error in errors) / len(errors)) < 0.015
    assert len(sketch_of(users(count)).to_bytes()) < 2_600


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-1], lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:], lambda _: b""],
    ids=["truncated", "a flipped bit", "nothing"],
)
def test_damaged_bytes_never_reach_the_library(damage: Callable[[bytes], bytes]) -> None:
    data = sketch_of(users(30_000)).to_bytes()
    with pytest.raises(DamagedSketchError, match="checksum"):
        Sketch.from_bytes(damage(data), sketch_checksum(data))


def test_a_sketch_of_another_size_or_none_at_all_is_refused() -> None:
    from datasketches import cpc_sketch  # noqa: PLC0415

    other = cpc_sketch(LG_K - 1).serialize()
    with pytest.raises(DamagedSketchError, match="lg_k 11, not 12"):
        Sketch.from_bytes(other, sketch_checksum(other))
    with pytest.raises(DamagedSketchError, match="not a sketch"):
        Sketch.from_bytes(b"what is this", sketch_checksum(b"what is this"))
