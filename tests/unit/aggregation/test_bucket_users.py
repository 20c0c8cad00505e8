from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from unique_users.aggregation.bucket_users import SETS_MAX, BucketUsers
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.event_time.rollup import Rollup

if TYPE_CHECKING:
    from unique_users.aggregation.sketches import Sketch

uids = st.sampled_from("abcdefgh")
few = settings(max_examples=40)
additions = st.lists(st.tuples(st.sampled_from([0, 60, 120, 180, 240]), st.lists(uids, max_size=6)), max_size=30)


def minute(start: int) -> Bucket:
    return Bucket("minute", start)


def minutes(counts: Mapping[int, Any]) -> dict[Bucket, Any]:
    return {minute(start): count for start, count in counts.items()}


def of_minutes(load: Callable[[Bucket], Iterable[str]], counts: Mapping[int, int] | None = None) -> BucketUsers:
    return BucketUsers(minutes(counts or {}), load, no_sketch, Rollup(Calendar()))


def no_sketch(bucket: Bucket) -> "Sketch":
    raise AssertionError(bucket)


class Disk:
    """What was saved, and how often it was asked for."""

    def __init__(self) -> None:
        self.users: dict[Bucket, list[str]] = {}
        self.loads: list[Bucket] = []

    def load(self, bucket: Bucket) -> Iterable[str]:
        self.loads.append(bucket)
        return self.users.get(bucket, [])

    def save(self, users: BucketUsers) -> None:
        for bucket, uids in users.unsaved().items():
            self.users.setdefault(bucket, []).extend(uids)
        users.mark_saved()


@few
@given(additions)
def test_a_count_is_the_size_of_the_union(additions: list[tuple[int, list[str]]]) -> None:
    users = of_minutes(Disk().load)
    expected: dict[int, set[str]] = {}
    for bucket, uids in additions:
        before = len(expected.get(bucket, ()))
        expected.setdefault(bucket, set()).update(uids)
        new = len(expected[bucket]) - before
        assert users.add(bucket, uids) == ({minute(bucket): new} if new else {})
    assert users.counts() == minutes({bucket: len(users) for bucket, users in expected.items() if users})
    assert users.uids_in_memory == sum(map(len, expected.values()))


@few
@given(additions)
def test_adding_everything_again_changes_nothing(additions: list[tuple[int, list[str]]]) -> None:
    users = of_minutes(Disk().load)
    for bucket, uids in additions:
        users.add(bucket, uids)
    before = dict(users.counts())
    users.mark_saved()
    assert [users.add(bucket, uids) for bucket, uids in reversed(additions)] == [{}] * len(additions)
    assert users.counts() == before
    assert users.unsaved() == {}


@few
@given(additions, st.integers(0, 10))
def test_counts_are_the_same_with_little_memory(additions: list[tuple[int, list[str]]], uids_max: int) -> None:
    disk = Disk()
    small, large = of_minutes(disk.load), of_minutes(Disk().load)
    for bucket, uids in additions:
        assert small.add(bucket, uids) == large.add(bucket, uids)
        disk.save(small)
        small.evict(uids_max)
    assert small.counts() == large.counts()
    assert {bucket: len(set(uids)) for bucket, uids in disk.users.items()} == large.counts()


@few
@given(additions)
def test_each_uid_is_handed_over_for_saving_once(additions: list[tuple[int, list[str]]]) -> None:
    users, disk = of_minutes(Disk().load), Disk()
    for bucket, uids in additions:
        users.add(bucket, uids)
        disk.save(users)
    assert {bucket: len(uids) for bucket, uids in disk.users.items()} == users.counts()


def test_a_bucket_of_before_a_restart_is_loaded_when_a_late_uid_comes_for_it_and_once_only() -> None:
    disk = Disk()
    disk.users = {minute(60): ["a", "b"]}
    users = of_minutes(disk.load, {60: 2})
    assert disk.loads == []
    assert users.add(120, ["a"]) == {minute(120): 1}
    assert users.add(60, ["b", "c"]) == {minute(60): 1}
    assert users.add(60, ["d"]) == {minute(60): 1}
    assert disk.loads == [minute(60)]
    assert users.counts() == minutes({60: 4, 120: 1})
    assert users.unsaved() == minutes({120: ["a"], 60: ["c", "d"]})


def test_evicting_drops_saved_buckets_that_were_not_used_for_longest_and_never_the_last_one() -> None:
    disk = Disk()
    users = of_minutes(disk.load)
    users.add(60, ["a", "b"])
    users.add(120, ["a", "b"])
    users.add(60, ["c"])
    assert not users.evict(4), "nothing is saved yet"
    disk.save(users)
    assert users.evict(4)
    assert users.uids_in_memory == 3
    users.add(60, ["c"])
    assert disk.loads == [], "60 stayed: it was used last"
    assert users.evict(0), "saving would let nothing go"
    assert users.uids_in_memory == 3
    users.add(120, ["b"])
    assert disk.loads == [minute(120)]


def test_evicting_keeps_a_limited_number_of_sets_however_few_users_they_hold() -> None:
    """A backlog of years has a minute for each of a few users."""
    disk = Disk()
    users = of_minutes(disk.load)
    for number in range(SETS_MAX + 2):
        users.add(number * 60, ["a"])
    assert not users.evict(10 * SETS_MAX), "nothing is saved yet"
    disk.save(users)
    assert users.evict(10 * SETS_MAX)
    assert users.uids_in_memory == SETS_MAX * 9 // 10
    assert users.counts() == minutes(dict.fromkeys(range(0, (SETS_MAX + 2) * 60, 60), 1))
    assert users.add(0, ["a", "b"]) == {minute(0): 1}
    assert disk.loads == [minute(0)]


def test_dropping_forgets_the_buckets_before_the_floor() -> None:
    users = of_minutes(Disk().load, {0: 5})
    users.add(60, ["a"])
    users.add(120, ["a", "b"])
    assert users.drop_before(120) == minutes({0: 5, 60: 1})
    assert users.counts() == minutes({120: 2})
    assert users.unsaved().keys() == {minute(120)}
    assert users.uids_in_memory == 2
    assert users.drop_before(120) == {}
