"""The users of one partition of `bucketed`: which users each bucket has seen. Pure."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from unique_users.aggregation.counts import Count, sketch_class, users_in
from unique_users.event_time.buckets import INTERVALS, Bucket
from unique_users.event_time.rollup import Rollup

if TYPE_CHECKING:
    from unique_users.aggregation.sketches import Sketch

# At most this many uids are interned, so that equal ones of different minutes share one string.
NAMES_MAX = 250_000
OTHERS_SHARE = 10  # one in this many uids in memory is for buckets other than the last one of each interval
SETS_MAX = 20_000  # sets in memory, 350 bytes each besides their uids; two weeks of minutes, the others are on disk
SKETCHES_MAX = 1_000  # sketches in memory, 5 kB each; the others are on disk


class Origin(NamedTuple):
    """Which partition of which topic is counted. `topic_id` is empty if the broker has none."""

    topic: str
    topic_id: str
    partition: int
    partitions: int


class BucketUsers:
    """A set of uids, or a sketch, for each bucket of each interval. Adding a user twice changes nothing.

    Counts are kept for all buckets, sets and sketches only for the most recently used. `load` and `load_sketch` bring a
    saved one back when a late user arrives for it.
    """

    def __init__(
        self,
        counts: Mapping[Bucket, Count],
        load: Callable[[Bucket], Iterable[str]],
        load_sketch: Callable[[Bucket], "Sketch"],
        rollup: Rollup,
    ) -> None:
        self._counts = dict(counts)
        self._load = load
        self._load_sketch = load_sketch
        self._rollup = rollup
        self._wide = len(rollup.intervals) > 1
        self._users: OrderedDict[Bucket, set[str]] = OrderedDict()  # least recently used first
        self._sketches: OrderedDict[Bucket, Sketch] = OrderedDict()  # least recently used first
        self._unsaved: dict[Bucket, list[str]] = {}
        self._unsaved_sketches: dict[Bucket, Sketch] = {}
        self._names: dict[str, str] = {}
        self.uids_in_memory = 0

    def add(self, minute: int, uids: Iterable[str]) -> dict[Bucket, int]:
        """Add users to a minute and to the buckets it is part of. Returns how many are new in each changed bucket.

        For an estimate, that is how much it grew.
        """
        new: list[set[str]] = []
        grown: dict[Bucket, int] = {}
        for bucket, source in self._rollup.steps(minute):
            if not new:
                candidates = set(uids)
                candidates -= self._users_of(bucket)
                fresh = self._named(candidates) if self._wide else candidates
            elif bucket.interval in self._rollup.estimates:
                if new[source]:
                    grown.update(self._sketch(bucket, new[source]))
                fresh = set()  # an estimate cannot tell who is new
            else:
                fresh = new[source] and new[source] - self._users_of(bucket)
            new.append(fresh)
            if fresh:
                self._insert(bucket, fresh)
                grown[bucket] = len(fresh)
        return grown

    def counts(self) -> Mapping[Bucket, Count]:
        """The number of unique users of each bucket."""
        return self._counts

    def unsaved(self) -> Mapping[Bucket, Sequence[str]]:
        """The uids added to each bucket since `mark_saved`."""
        return self._unsaved

    def unsaved_sketches(self) -> Mapping[Bucket, "Sketch"]:
        """The sketches that changed since `mark_saved`."""
        return self._unsaved_sketches

    def sketch(self, bucket: Bucket) -> "Sketch":
        """The sketch of an estimated bucket that is held."""
        return self._sketches.get(bucket) or self._load_sketch(bucket)

    def mark_saved(self) -> None:
        """Note that everything added is saved: `load` and `load_sketch` would return it."""
        self._unsaved = {}
        self._unsaved_sketches = {}

    def evict(self, uids_max: int) -> bool:
        """Drop sets of saved buckets until at most `uids_max` uids are in memory; a user counts once per bucket.

        Short intervals go before long ones, the least recently used first. The last used bucket of each interval stays,
        and of the others as many uids as fit beside these, a tenth of `uids_max` at least. Sets and sketches have
        limits of their number as well. Returns whether this is all that can be done: False if a save would allow more
        to be dropped.
        """
        sketches_done = self._evict_sketches()
        return self._evict_users(uids_max) and sketches_done

    def _evict_sketches(self) -> bool:
        excess = len(self._sketches) - SKETCHES_MAX
        if excess <= 0:
            return True
        saved = [bucket for bucket in self._sketches if bucket not in self._unsaved_sketches]
        for bucket in saved[:excess]:
            del self._sketches[bucket]
        return len(saved) >= excess

    def _evict_users(self, uids_max: int) -> bool:
        if self._fits(uids_max, SETS_MAX):
            return True
        sets_max = SETS_MAX * 9 // 10  # several at once: each search takes time in proportion to the number of sets
        last = {bucket.interval: bucket for bucket in self._users}
        others = [bucket for bucket in self._users if bucket != last[bucket.interval]]
        others.sort(key=lambda bucket: INTERVALS.index(bucket.interval))
        held = sum(len(self._users[bucket]) for bucket in others)
        # If those that stay took all of it, each late user would bring back a minute that is evicted at once.
        uids_max = max(uids_max, self.uids_in_memory - held + uids_max // OTHERS_SHARE)
        for bucket in others:
            if self._fits(uids_max, sets_max):
                return True
            if bucket not in self._unsaved:
                self.uids_in_memory -= len(self._users.pop(bucket))
        return self._fits(uids_max, SETS_MAX) or not any(bucket in self._unsaved for bucket in others)

    def _fits(self, uids_max: int, sets_max: int) -> bool:
        return self.uids_in_memory <= uids_max and len(self._users) <= sets_max

    def drop_before(self, floor: int) -> dict[Bucket, Count]:
        """Forget the buckets that end by `floor`, and return their counts."""
        last_minute = self._rollup.last_minute
        dropped = {
            bucket: count
            for bucket, count in self._counts.items()
            if bucket.start < floor and last_minute(bucket) < floor
        }
        for bucket in dropped:
            del self._counts[bucket]
            self._unsaved.pop(bucket, None)
            self._unsaved_sketches.pop(bucket, None)
            self._sketches.pop(bucket, None)
            self.uids_in_memory -= len(self._users.pop(bucket, ()))
        return dropped

    def _insert(self, bucket: Bucket, fresh: set[str]) -> None:
        users = self._users[bucket]
        users |= fresh
        self.uids_in_memory += len(fresh)
        self._counts[bucket] = len(users)
        self._unsaved.setdefault(bucket, []).extend(fresh)

    def _sketch(self, bucket: Bucket, uids: set[str]) -> dict[Bucket, int]:
        """Add users to a bucket's sketch. Returns how much its estimate grew, if it changed."""
        sketch = self._sketch_of(bucket)
        if not sketch.add(uids):
            return {}
        before = users_in(self._counts.get(bucket, 0))
        self._counts[bucket] = after = sketch.estimate()
        self._unsaved_sketches[bucket] = sketch
        return {bucket: after.unique_users - before}

    def _sketch_of(self, bucket: Bucket) -> "Sketch":
        sketch = self._sketches.get(bucket)
        if sketch is None:
            sketch = self._load_sketch(bucket) if bucket in self._counts else sketch_class()()
            self._sketches[bucket] = sketch
        self._sketches.move_to_end(bucket)
        return sketch

    def _named(self, uids: set[str]) -> set[str]:
        """Equal uids, as the strings already in memory if they are known."""
        if len(self._names) > NAMES_MAX:
            self._names = {}
        return set(map(self._names.setdefault, uids, uids))

    def _users_of(self, bucket: Bucket) -> set[str]:
        users = self._users.get(bucket)
        if users is not None:
            self._users.move_to_end(bucket)
            return users
        users = set(self._load(bucket)) if bucket in self._counts else set()
        self._users[bucket] = users
        self.uids_in_memory += len(users)
        return users
