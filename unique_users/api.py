"""The published counts for other Python programs. docs/api.md shows how to use it.

The public API is what `__all__` names here, and nothing else in the package. It follows semantic versioning: names and
meanings stay until the next major version (before 1.0, the next minor one), and new fields have defaults.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from unique_users.aggregation.counts import Estimate, users_in
from unique_users.clients.connect import get_admin, get_reader
from unique_users.config.load import load_config
from unique_users.config.schema import Config
from unique_users.errors import BrokerAwayError, BrokerError, TopicError, UniqueUsersError, UsageError
from unique_users.event_time.buckets import INTERVALS, Bucket, Calendar
from unique_users.messages.merged_counts import PublishedBucket, ReadCounts
from unique_users.queries.every_count import EveryCount
from unique_users.queries.same_topic import SameTopic

__all__ = [
    "BrokerAwayError",
    "BrokerError",
    "BucketCount",
    "CountsUpdate",
    "TopicError",
    "UniqueUsersError",
    "UsageError",
    "follow_counts",
    "read_counts",
]


class BucketCount(NamedTuple):
    """The unique users of a bucket, as published: from `start` up to but not including `end`. Both have a time zone.

    Estimates have bounds. `at_end` is the count when the stream passed the bucket's end, None if that is not known.
    `why` says why the count may be wrong; it is empty for a whole bucket.
    """

    interval: str
    start: datetime
    end: datetime
    unique_users: int
    lower_bound: int | None = None
    upper_bound: int | None = None
    at_end: int | None = None
    why: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether the count is complete and not too high, as far as is known."""
        return not self.why


class CountsUpdate(NamedTuple):
    """The counts that are new or have changed, oldest first, and the intervals and starts of those that are gone."""

    counts: list[BucketCount]
    removed: list[tuple[str, datetime]]


def read_counts(config: str | Path = "config.yaml", settings: Iterable[str] = ()) -> list[BucketCount]:
    """All counts that are published now, shorter intervals and older buckets first.

    `config` is the configuration file, or an empty string for the defaults. `settings` are like those of `--set`:
    `["kafka.bootstrap_servers=kafka-1:9092"]`. Memory grows with the number of buckets.

    Raises UsageError for a wrong configuration, BrokerAwayError if no broker answers or it has no such topic,
    BrokerError if it refuses, and TopicError if the topic is recreated meanwhile.
    """
    loaded = load_config(str(config), settings)
    topic = loaded.topics.counts.name
    with closing(get_admin(loaded)) as admin:
        same = SameTopic(admin, topic)  # first: a reader would wait for a topic that does not exist
        with closing(get_reader(loaded, topic)) as reader:
            every = EveryCount(reader)
            while not every.caught_up:
                every.step()
                _check(same)
            return _Shown(loaded).counts(every.counts.merged())


def follow_counts(
    config: str | Path = "config.yaml",
    settings: Iterable[str] = (),
    *,
    stop: Callable[[], bool] = lambda: False,
    wait_seconds: float = 0.5,
) -> Iterator[CountsUpdate]:
    """All counts that are published now, then each change to them, until `stop` returns True.

    Arguments and errors are those of `read_counts`. The first update holds everything. While nothing changes, an update
    without counts comes every `wait_seconds`, so that the caller gets its turn.

    After an error, the generator is finished: follow again, and the first update holds everything once more. If the
    topic was recreated or has got more partitions, the error is a TopicError.
    """
    loaded = load_config(str(config), settings)
    topic = loaded.topics.counts.name
    shown = _Shown(loaded)
    with closing(get_admin(loaded)) as admin:
        same = SameTopic(admin, topic)
        with closing(get_reader(loaded, topic)) as reader:
            every = EveryCount(reader)
            while not every.caught_up and not stop():
                every.step()
                _check(same)
            while not stop():
                yield shown.update(every.counts)
                every.step(wait_seconds)
                _check(same)


def _check(same: SameTopic) -> None:
    if same.has_changed():
        message = f"topic {same.topic!r} was recreated, or has more partitions now: read it again"
        raise TopicError(message)


class _Shown:
    """Counts as others see them, and which ones were shown before."""

    def __init__(self, config: Config) -> None:
        self._calendar = Calendar(config.counter.timezone)
        self._zone = ZoneInfo(config.counter.timezone)
        self._before: dict[Bucket, PublishedBucket] = {}

    def counts(self, found: dict[Bucket, PublishedBucket]) -> list[BucketCount]:
        order = sorted(found, key=lambda bucket: (INTERVALS.index(bucket.interval), bucket.start))
        return [self._count(bucket, found[bucket]) for bucket in order]

    def update(self, counts: ReadCounts) -> CountsUpdate:
        changed = counts.take_changed()
        now = counts.merged(changed)
        found = {bucket: each for bucket, each in now.items() if self._before.get(bucket) != each}
        gone = sorted(bucket for bucket in changed if bucket in self._before and bucket not in now)
        self._before.update(found)
        for bucket in gone:
            del self._before[bucket]
        removed = [(bucket.interval, self._time(bucket, bucket.start)) for bucket in gone]
        return CountsUpdate(self.counts(found), removed)

    def _count(self, bucket: Bucket, found: PublishedBucket) -> BucketCount:
        total = found.total
        lower, upper = (total.lower, total.upper) if isinstance(total, Estimate) else (None, None)
        start, end = (self._time(bucket, at) for at in (bucket.start, self._calendar.end(bucket)))
        return BucketCount(bucket.interval, start, end, users_in(total), lower, upper, found.at_end, found.why)

    def _time(self, bucket: Bucket, at: int) -> datetime:
        return datetime.fromtimestamp(at, self._zone if self._calendar.zone_of(bucket.interval) else UTC)
