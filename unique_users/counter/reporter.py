"""What the counter reports: the buckets that changed, and what is left to do."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from unique_users.aggregation.completeness import Why
from unique_users.aggregation.counts import Count, add_up, users_in
from unique_users.config.schema import Config
from unique_users.counter.assigned_partitions import CountedPartitions
from unique_users.counter.partition import CountedPartition
from unique_users.event_time.buckets import INTERVALS, Bucket
from unique_users.pipeline.progress import ProgressSource
from unique_users.reports.bucket_count import BucketCount
from unique_users.reports.meter import Meter
from unique_users.reports.output import Output
from unique_users.reports.report import CounterReport
from unique_users.runtime.heartbeat import busy


class Reporter:
    """Collects what happened since the last report, and passes it to every output."""

    def __init__(
        self,
        config: Config,
        partitions: CountedPartitions,
        progress: ProgressSource,
        outputs: Sequence[Output],
        monotonic: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._partitions = partitions
        self._progress = progress
        self._outputs = outputs
        self._meter = Meter(monotonic)
        self._wall_clock = wall_clock
        self._closed: dict[Bucket, Count] = {}  # the last counts of buckets dropped since the last report
        self._closed_why: dict[Bucket, set[Why]] = {}
        self.messages_read = 0  # since the start
        self.reported = False

    def note_closed(self, partition: CountedPartition, dropped: dict[Bucket, Count]) -> None:
        """Have the next report include the last counts of dropped buckets."""
        for bucket, count in dropped.items():
            self._closed[bucket] = add_up([self._closed.get(bucket, 0), count])
            if why := partition.why(bucket):
                self._closed_why.setdefault(bucket, set()).update(why)

    def report(self, missing: tuple[str, ...], *, everything: bool = False) -> None:
        """Report the buckets that changed since the last report, or every bucket held, and what is left to do.

        The latter asks the broker; the counts are printed before that, so they do not wait for it.
        """
        with busy():
            new = self._partitions.take_new()
            changed = self._shown(new)
            if everything:
                found = self._counts(None, self._shown(self._partitions.buckets()))
            else:
                found = self._counts(new, changed)
            for output in self._outputs:
                output.counts(found)
        report = self._report(len(changed), missing)
        with busy():
            for output in self._outputs:
                output.report(report)
        self._closed.clear()
        self._closed_why.clear()
        self.reported = True

    def _shown(self, buckets: Iterable[Bucket]) -> set[Bucket]:
        return {bucket for bucket in buckets if bucket.interval in self._config.counter.intervals}

    def _counts(self, new: Mapping[Bucket, int] | None, shown: Iterable[Bucket]) -> list[BucketCount]:
        """The shown buckets with what is new in each; None means that all of their users are."""
        found = []
        for bucket in sorted(shown, key=lambda bucket: (INTERVALS.index(bucket.interval), bucket.start)):
            count = add_up([self._partitions.count(bucket), self._closed.get(bucket, 0)])
            why = sorted(self._partitions.why(bucket) | self._closed_why.get(bucket, set()))
            added = users_in(count) if new is None else new[bucket]
            found.append(BucketCount(bucket.start, count, added, bucket.interval, tuple(why)))
        return found

    def _report(self, buckets_changed: int, missing: tuple[str, ...]) -> CounterReport:
        held = self._partitions.open
        line = self._progress.current()
        report = CounterReport(
            at=int(self._wall_clock()),
            reading=self._meter.read(self.messages_read),
            frames=line.totals() if line else None,
            lag=None if self._config.topics.bucketed.name in missing else self._partitions.lag(),
            partitions=tuple(sorted(held)),
            of=next((each.origin.partitions for each in held.values()), None),
            missing=missing,
            buckets_changed=buckets_changed,
            unreadable=sum(each.unreadable for each in held.values()),
            in_transactions=line.in_transactions if line else 0,
            feed_lag=line.unread if line else None,
            feed_behind_seconds=line.behind_seconds if line else None,
        )
        for each in held.values():
            each.unreadable = 0
        return report
