"""The metrics of a counter."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from prometheus_client.core import Metric

from unique_users.aggregation.counts import users_in
from unique_users.config.schema import Config
from unique_users.counter.assigned_partitions import CountedPartitions
from unique_users.event_time.buckets import Bucket
from unique_users.messages.frame import Reason
from unique_users.metrics import declared
from unique_users.metrics.declared import family
from unique_users.metrics.families import labelled, single, traffic_in, traffic_out
from unique_users.metrics.lag_watch import LagWatch
from unique_users.runtime.activity import ACTIVITY


class Held(NamedTuple):
    """What a counter held when its loop looked last."""

    users_in_memory: int = 0
    buckets: Mapping[str, int] = {}
    not_whole: Mapping[str, int] = {}
    minute: Bucket | None = None
    minute_users: int = 0
    state_bytes: int = 0


class CounterSource:
    """Of a counter: ready once it has partitions, and has opened their states.

    Its partitions change while others look: `look` is for the loop, which calls it in between.
    """

    def __init__(self, config: Config, partitions: CountedPartitions, lag: LagWatch) -> None:
        self._topic = config.topics.bucketed.name
        self._state = Path(config.state.directory)
        self._partitions = partitions
        self._lag = lag
        self._held = Held()

    def look(self) -> None:
        """Note what is held now. It takes a moment for each 10,000 buckets."""
        opened = self._partitions.open.values()
        buckets, not_whole = Counter[str](), Counter[str]()
        for each in opened:
            held = each.buckets()
            buckets.update(bucket.interval for bucket in held)
            if each.facts.all_gaps or each.facts.former_gaps:
                not_whole.update(bucket.interval for bucket in held if each.why(bucket))
        minutes = [each.newest_minute for each in opened if each.newest_minute]
        self._held = Held(
            sum(each.users_in_memory for each in opened),
            buckets,
            not_whole,
            minute := max(minutes, default=None),
            users_in(self._partitions.count(minute)) if minute else 0,
            sum(_size(path) for path in self._state.glob("*.sqlite*")),
        )

    def families(self) -> Iterator[Metric]:
        held = self._held
        yield from traffic_out()
        yield from traffic_in(self._lag, self._topic, len(self._partitions.open))
        yield family(declared.FRAMES_REJECTED, {(Reason.LATE.value,): ACTIVITY.late_users})
        yield family(declared.NEW_USERS, labelled(ACTIVITY.new_users.copy()))
        yield single(declared.UNREADABLE, ACTIVITY.records_unreadable)
        yield single(declared.USERS_IN_MEMORY, held.users_in_memory)
        yield family(declared.BUCKETS, labelled(held.buckets))
        yield family(declared.BUCKETS_NOT_WHOLE, labelled(dict.fromkeys(held.buckets, 0) | dict(held.not_whole)))
        yield single(declared.STATE_BYTES, held.state_bytes)
        yield family(declared.LAST_SAVE, _since(ACTIVITY.saved_at))
        yield family(declared.LAST_PUBLISH, _since(ACTIVITY.published_at))
        minute = held.minute
        yield family(declared.MINUTE_USERS, {(): held.minute_users} if minute else {})
        yield family(declared.MINUTE_TIME, {(): minute.start} if minute else {})

    def not_ready(self) -> str:
        return self._partitions.not_ready()


def _since(at: float) -> dict[tuple[str, ...], float]:
    return {(): at} if at else {}


def _size(path: Path) -> int:
    with suppress(OSError):  # it may be gone by now
        return path.stat().st_size
    return 0
