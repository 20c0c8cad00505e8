"""A state follows the configured intervals: a new one is filled from what is saved, one that is gone is dropped."""

from collections.abc import Iterable, Iterator
from itertools import chain

from unique_users.buckets import INTERVALS, Bucket
from unique_users.cascade import Cascade
from unique_users.ledger import Store


def follow(store: Store, cascade: Cascade) -> list[str]:
    """Bring a state to the intervals of `cascade` in one transaction; return those that were filled.

    An interval whose zone has changed, or that is estimated now or not any more, is another one. What is filled holds
    the users that the state still knows: all that stand in the narrower exact intervals, so that the cascade's promise
    holds.
    """
    wanted = cascade.rules
    if store.intervals == wanted:
        return []
    kept = {name for name, rule in store.intervals.items() if wanted.get(name) == rule}
    dropped = [bucket for bucket in store.counts if bucket.interval not in kept]
    new = [name for name in cascade.intervals if name not in kept]
    known = kept | set(new)
    store.change_intervals(wanted, dropped, _filled(store, cascade, new, known))
    return [name for name in new if any(bucket.interval == name for bucket in store.counts)]


def _filled(store: Store, cascade: Cascade, new: list[str], known: set[str]) -> Iterator[tuple[Bucket, Iterable[str]]]:
    """Each new bucket with its users, short intervals first; each is counted by the store before the next one."""
    exact = known - cascade.estimates
    for name in new:
        narrower = [other for other in INTERVALS[: INTERVALS.index(name)] if other in exact]
        buckets = [bucket for bucket in store.counts if bucket.interval in narrower]
        wide: dict[Bucket, list[Bucket]] = {}
        for bucket in buckets:
            target = Bucket(name, cascade.calendar.start(name, bucket.start))
            if cascade.calendar.holds(name, bucket):
                wide.setdefault(target, []).append(bucket)
        for target, parts in sorted(wide.items()):
            yield target, chain.from_iterable(_users(store, cascade, parts))


def _users(store: Store, cascade: Cascade, parts: list[Bucket]) -> Iterator[list[str]]:
    """The users of all parts, of which those that lie in a wider one need no look."""
    taken: set[Bucket] = set()
    parts.sort(key=lambda bucket: INTERVALS.index(bucket.interval), reverse=True)
    names = {bucket.interval for bucket in parts}
    for part in parts:
        wider = [name for name in names if INTERVALS.index(name) > INTERVALS.index(part.interval)]
        around = (Bucket(name, cascade.calendar.start(name, part.start)) for name in wider)
        if not any(bucket in taken and cascade.calendar.holds(bucket.interval, part) for bucket in around):
            yield store.load(part)
        taken.add(part)
