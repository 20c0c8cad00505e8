"""What a start would drop from the states: it is refused until the operator allows it."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from unique_users.aggregation.counts import Count, users_in
from unique_users.errors import UsageError
from unique_users.event_time.buckets import MINUTE, Bucket, bucket_timestamp
from unique_users.event_time.rollup import Rollup, Rule
from unique_users.state.metadata import Snapshot

RETENTION = "retention"  # its name alongside those of the intervals


class Drop(NamedTuple):
    """What one change of the configuration would drop, and how to keep it."""

    name: str
    counts: Mapping[Bucket, Count]  # of one partition
    keep: str


def refuse_drops(states: Iterable[Snapshot], rollup: Rollup, retention_seconds: int, allowed: Collection[str]) -> None:
    """Raise UsageError if a start with these settings would drop something from the states that is not `allowed`."""
    drops: dict[str, list[Drop]] = {}
    for state in states:
        for drop in _drops(state, rollup, retention_seconds):
            if drop.name not in allowed:
                drops.setdefault(drop.name, []).append(drop)
    if drops:
        told = "; ".join(_told(name, parts) for name, parts in drops.items())
        message = f"this start would drop what the state holds, so it changed nothing: {told}"
        raise UsageError(message)


def _drops(state: Snapshot, rollup: Rollup, retention_seconds: int) -> Iterator[Drop]:
    wanted = rollup.rules
    for name, rule in state.intervals.items():
        counts = {bucket: count for bucket, count in state.counts.items() if bucket.interval == name}
        if wanted.get(name) != rule and counts:
            yield Drop(name, counts, _keep(name, rule, wanted.get(name)))
    former = state.facts.retention_seconds
    if former is None or not retention_seconds or 0 < former <= retention_seconds:
        return
    keep = f"set counter.retention_seconds to {f'{former} or more' if former else '0'}"
    floor, former_floor = (_floor(state.counts, seconds) for seconds in (retention_seconds, former))
    past = {
        bucket: count
        for bucket, count in state.counts.items()
        if former_floor <= rollup.last_minute(bucket) < floor and wanted.get(bucket.interval) == _rule(state, bucket)
    }
    if past:
        yield Drop(RETENTION, past, keep)


def _rule(state: Snapshot, bucket: Bucket) -> Rule | None:
    return state.intervals.get(bucket.interval)


def _keep(name: str, held: Rule, wanted: Rule | None) -> str:
    if wanted is None:
        return f"put {name} back into counter.intervals"
    ways = []
    if wanted.zone != held.zone:
        ways.append(f"set counter.timezone to {held.zone}")
    if wanted.kind != held.kind:
        ways.append(f"{'take' if held.kind == 'exact' else 'put'} {name} {_ESTIMATES[held.kind]} counter.estimates")
    return " and ".join(ways)


_ESTIMATES = {"exact": "out of", "estimate": "back into"}


def _floor(counts: Iterable[Bucket], retention_seconds: int) -> int:
    """Roughly the first minute kept: the stream's clock is not known yet, and is close to the newest minute."""
    newest = max((bucket.start for bucket in counts if bucket.interval == MINUTE.name), default=0)
    return bucket_timestamp(max(0, newest - retention_seconds)) if retention_seconds else 0


def _told(name: str, drops: Iterable[Drop]) -> str:
    parts = list(drops)
    buckets = set().union(*(drop.counts for drop in parts))
    users = sum(users_in(count) for drop in parts for count in drop.counts.values())
    flag = f'--drop "{name}"' if " " in name else f"--drop {name}"
    held = f"{name}: {len(buckets):,} bucket{'' if len(buckets) == 1 else 's'}, {users:,} users"
    return f"{held} ({parts[0].keep} to keep them, or start with {flag})"
