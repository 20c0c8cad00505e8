"""The tally of one partition of `bucketed`: which users each bucket has seen. Pure."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from unique_users.buckets import INTERVALS, Bucket
from unique_users.cascade import Cascade

# So many uids at most are known by name, so that equal ones of different minutes are one text in memory.
NAMES_MAX = 1_000_000


class Origin(NamedTuple):
    """Which partition of which topic is tallied. `topic_id` is empty on brokers that have none."""

    topic: str
    topic_id: str
    partition: int
    partitions: int


class Tally:
    """A set of uids for each bucket of each interval. Adding what is there already changes nothing.

    Counts are kept for all buckets; the sets of those that were used last only. `load` brings the saved uids of a
    bucket back when a late one comes for it.
    """

    def __init__(self, counts: Mapping[Bucket, int], load: Callable[[Bucket], Iterable[str]], cascade: Cascade) -> None:
        self._counts = dict(counts)
        self._load = load
        self._cascade = cascade
        self._users: OrderedDict[Bucket, set[str]] = OrderedDict()  # least recently used first
        self._unsaved: dict[Bucket, list[str]] = {}
        self._names: dict[str, str] = {}
        self.uids_in_memory = 0

    def add(self, minute: int, uids: Iterable[str]) -> dict[Bucket, int]:
        """Add users to a minute and what it is part of; return how many are new, for each bucket with new ones."""
        steps = self._cascade.steps(minute)
        new: list[set[str]] = []
        for bucket, source in steps:
            if not new:
                candidates = set(uids)
                candidates -= self._users_of(bucket)
                fresh = self._named(candidates)
            else:
                fresh = new[source] and new[source] - self._users_of(bucket)
            new.append(fresh)
            if fresh:
                self._insert(bucket, fresh)
        return {step.bucket: len(fresh) for step, fresh in zip(steps, new, strict=True) if fresh}

    def counts(self) -> Mapping[Bucket, int]:
        """The number of unique users of each bucket."""
        return self._counts

    def unsaved(self) -> Mapping[Bucket, Sequence[str]]:
        """The uids added to each bucket since `mark_saved`."""
        return self._unsaved

    def mark_saved(self) -> None:
        """All that was added is saved: `load` would return it."""
        self._unsaved = {}

    def evict(self, uids_max: int) -> bool:
        """Drop the sets of saved buckets until at most `uids_max` uids are in memory; a user is one in each bucket.

        Short intervals go before long ones, least recently used ones first. The bucket of each interval that was used
        last stays. Returns whether this is all that can be done: False when saving would let more go.
        """
        if self.uids_in_memory <= uids_max:
            return True
        last = {bucket.interval: bucket for bucket in self._users}
        others = [bucket for bucket in self._users if bucket != last[bucket.interval]]
        others.sort(key=lambda bucket: INTERVALS.index(bucket.interval))
        for bucket in others:
            if self.uids_in_memory <= uids_max:
                return True
            if bucket not in self._unsaved:
                self.uids_in_memory -= len(self._users.pop(bucket))
        return self.uids_in_memory <= uids_max or not any(bucket in self._unsaved for bucket in others)

    def drop_before(self, floor: int) -> dict[Bucket, int]:
        """Forget the buckets that end by `floor`, and return their counts."""
        last_minute = self._cascade.last_minute
        dropped = {
            bucket: count
            for bucket, count in self._counts.items()
            if bucket.start < floor and last_minute(bucket) < floor
        }
        for bucket in dropped:
            del self._counts[bucket]
            self._unsaved.pop(bucket, None)
            self.uids_in_memory -= len(self._users.pop(bucket, ()))
        return dropped

    def _insert(self, bucket: Bucket, fresh: set[str]) -> None:
        users = self._users[bucket]
        users |= fresh
        self.uids_in_memory += len(fresh)
        self._counts[bucket] = len(users)
        self._unsaved.setdefault(bucket, []).extend(fresh)

    def _named(self, uids: set[str]) -> set[str]:
        """Equal uids, as texts that stand in memory already where they are known."""
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
