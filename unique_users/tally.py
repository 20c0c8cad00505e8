"""The tally of one partition of `bucketed`: which users each bucket has seen. Pure."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple


class Origin(NamedTuple):
    """Which partition of which topic is tallied. `topic_id` is empty on brokers that have none."""

    topic: str
    topic_id: str
    partition: int
    partitions: int


class Tally:
    """A set of uids for each bucket. Adding what is there already changes nothing.

    Counts are kept for all buckets; the sets of those that were used last only. `load` brings the saved uids of a
    bucket back when a late one comes for it.
    """

    def __init__(self, counts: Mapping[int, int], load: Callable[[int], Iterable[str]]) -> None:
        self._counts = dict(counts)
        self._load = load
        self._users: OrderedDict[int, set[str]] = OrderedDict()  # least recently used first
        self._unsaved: dict[int, list[str]] = {}
        self.uids_in_memory = 0

    def add(self, bucket: int, uids: Iterable[str]) -> int:
        """Add users to a bucket; return how many of them are new there."""
        users = self._users_of(bucket)
        fresh = set(uids)
        fresh -= users
        if fresh:
            users |= fresh
            self.uids_in_memory += len(fresh)
            self._counts[bucket] = len(users)
            self._unsaved.setdefault(bucket, []).extend(fresh)
        return len(fresh)

    def counts(self) -> Mapping[int, int]:
        """The number of unique users of each bucket."""
        return self._counts

    def unsaved(self) -> Mapping[int, Sequence[str]]:
        """The uids added to each bucket since `mark_saved`."""
        return self._unsaved

    def mark_saved(self) -> None:
        """All that was added is saved: `load` would return it."""
        self._unsaved = {}

    def evict(self, uids_max: int) -> bool:
        """Drop the sets of saved buckets, least recently used first, until at most `uids_max` uids are in memory.

        The bucket used last stays. Returns whether the bound holds.
        """
        for bucket in list(self._users)[:-1]:
            if self.uids_in_memory <= uids_max:
                break
            if bucket not in self._unsaved:
                self.uids_in_memory -= len(self._users.pop(bucket))
        return self.uids_in_memory <= uids_max

    def drop_before(self, floor: int) -> list[int]:
        """Forget the buckets that start before `floor`; return their starts."""
        dropped = [bucket for bucket in self._counts if bucket < floor]
        for bucket in dropped:
            del self._counts[bucket]
            self._unsaved.pop(bucket, None)
            self.uids_in_memory -= len(self._users.pop(bucket, ()))
        return dropped

    def _users_of(self, bucket: int) -> set[str]:
        users = self._users.get(bucket)
        if users is not None:
            self._users.move_to_end(bucket)
            return users
        users = set(self._load(bucket)) if bucket in self._counts else set()
        self._users[bucket] = users
        self.uids_in_memory += len(users)
        return users
