"""Which buckets a minute belongs to, and where the new users of each come from. Pure."""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from unique_users.event_time.buckets import INTERVALS, MINUTE, Bucket, Calendar


class Rule(NamedTuple):
    """How an interval is counted: the zone of its buckets, empty up to an hour; and `exact` or `estimate`."""

    zone: str
    kind: str


class Step(NamedTuple):
    """One bucket of a minute. A user new in it is also new in the bucket of step `source`, which is exact."""

    bucket: Bucket
    source: int


class Rollup:
    """The counted intervals, from short to long; always including the minute, which the others come from.

    A user who is not new in a bucket is not new in a wider one that holds all of it. So only the users new in the
    widest of the narrower ones need a look.
    """

    def __init__(self, calendar: Calendar, intervals: Iterable[str] = (), estimates: Iterable[str] = ()) -> None:
        self.calendar = calendar
        self.estimates = frozenset(estimates)  # the intervals that are not counted exactly; never the minute
        wanted = {MINUTE.name, *intervals}
        self.intervals = tuple(name for name in INTERVALS if name in wanted)
        self.steps = lru_cache(maxsize=4_096)(self._steps)

    @property
    def rules(self) -> dict[str, Rule]:
        """How each interval is counted."""
        kinds = {name: "estimate" if name in self.estimates else "exact" for name in self.intervals}
        return {name: Rule(self.calendar.zone_of(name), kind) for name, kind in kinds.items()}

    def last_minute(self, bucket: Bucket) -> int:
        """The start of the last minute in a bucket."""
        return self.calendar.end(bucket) - MINUTE.seconds

    def _steps(self, minute: int) -> tuple[Step, ...]:
        """The buckets of a minute, itself first."""
        steps: list[Step] = []
        for name in self.intervals:
            bucket = Bucket(name, self.calendar.start(name, minute))
            exact = (n for n in range(len(steps) - 1, 0, -1) if steps[n].bucket.interval not in self.estimates)
            sources = (n for n in exact if self.calendar.holds(name, steps[n].bucket))
            steps.append(Step(bucket, next(sources, 0)))
        return tuple(steps)
