"""Adapts a state to the configured intervals: new ones are filled from what is saved, removed ones are dropped."""

from collections.abc import Iterable, Iterator
from itertools import chain

from msgspec.structs import replace

from unique_users.aggregation.completeness import Gap, Why, why_not_whole, with_gaps
from unique_users.event_time.buckets import INTERVALS, Bucket
from unique_users.event_time.rollup import Rollup
from unique_users.state.metadata import Facts
from unique_users.state.store import Store


def follow(store: Store, rollup: Rollup) -> list[str]:
    """Bring a state to the intervals of `rollup` in one transaction. Returns the intervals that were filled.

    An interval counts as another one if its time zone changed, or if it changed between exact and estimated. A filled
    one holds the users that the state still knows: all those in the narrower exact intervals, so that the rollup's
    promise holds. The same transaction notes what is dropped as withdrawn, and what is filled too late as a gap.
    """
    wanted = rollup.rules
    if store.intervals == wanted:
        return []
    kept = {name for name, rule in store.intervals.items() if wanted.get(name) == rule}
    dropped = [bucket for bucket in store.counts if bucket.interval not in kept]
    new = [name for name in rollup.intervals if name not in kept]
    known = kept | set(new)
    facts = _facts(store, rollup, kept, new, dropped)
    store.change_intervals(wanted, dropped, _filled(store, rollup, new, known), facts)
    return [name for name in new if any(bucket.interval == name for bucket in store.counts)]


def _facts(store: Store, rollup: Rollup, kept: set[str], new: list[str], dropped: list[Bucket]) -> Facts:
    facts = store.facts
    of_kept, former = ([gap for gap in gaps if gap.interval in {"", *kept}] for gaps in (facts.gaps, facts.former_gaps))
    late = [gap for name in new for gap in _filled_late(store, rollup, kept, name)]
    withdrawn = tuple(dict.fromkeys([*facts.withdrawn, *dropped]))
    return replace(facts, gaps=with_gaps(of_kept, late), former_gaps=tuple(former), withdrawn=withdrawn)


def _filled_late(store: Store, rollup: Rollup, kept: set[str], name: str) -> list[Gap]:
    """What a new interval lacks: all before the floor, except what buckets cover that lie in its bucket there.

    A narrower bucket outlives its minutes, and covers all of its time unless it was filled late itself. The buckets
    before the one at the floor are never held here, but by partitions that have dropped less.
    """
    calendar, floor = rollup.calendar, store.floor
    target = Bucket(name, calendar.start(name, floor))
    narrower = kept.intersection(INTERVALS[: INTERVALS.index(name)]) - rollup.estimates
    covering = [
        bucket
        for bucket in store.counts
        if bucket.interval in narrower and target.start <= bucket.start < floor and calendar.holds(name, bucket)
    ]
    missing_to = floor
    for bucket in sorted(covering, key=lambda bucket: bucket.start, reverse=True):
        own = [gap for gap in store.facts.gaps if gap.interval]
        if calendar.end(bucket) >= missing_to and not why_not_whole(own, bucket, calendar):
            missing_to = min(missing_to, bucket.start)
    return [Gap(name, 0, missing_to, Why.FILLED_LATE)] if missing_to else []


def _filled(store: Store, rollup: Rollup, new: list[str], known: set[str]) -> Iterator[tuple[Bucket, Iterable[str]]]:
    """Each new bucket with its users, short intervals first; the store counts each before the next one is made."""
    exact = known - rollup.estimates
    for name in new:
        narrower = [other for other in INTERVALS[: INTERVALS.index(name)] if other in exact]
        buckets = [bucket for bucket in store.counts if bucket.interval in narrower]
        wide: dict[Bucket, list[Bucket]] = {}
        for bucket in buckets:
            target = Bucket(name, rollup.calendar.start(name, bucket.start))
            if rollup.calendar.holds(name, bucket):
                wide.setdefault(target, []).append(bucket)
        for target, parts in sorted(wide.items()):
            yield target, chain.from_iterable(_users(store, rollup, parts))


def _users(store: Store, rollup: Rollup, parts: list[Bucket]) -> Iterator[list[str]]:
    """The users of all parts; parts that lie in a wider one need no look."""
    taken: set[Bucket] = set()
    parts.sort(key=lambda bucket: INTERVALS.index(bucket.interval), reverse=True)
    names = {bucket.interval for bucket in parts}
    for part in parts:
        wider = [name for name in names if INTERVALS.index(name) > INTERVALS.index(part.interval)]
        around = (Bucket(name, rollup.calendar.start(name, part.start)) for name in wider)
        if not any(bucket in taken and rollup.calendar.holds(bucket.interval, part) for bucket in around):
            yield store.load(part)
        taken.add(part)
