"""The counter's loop: records of `bucketed` become counts of unique users."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from unique_users.clients import Batch, Consumer, Position, lag
from unique_users.config import Config
from unique_users.errors import BrokerAwayError
from unique_users.lifecycle import Stop
from unique_users.positions import readable_offset
from unique_users.rekey import users_by_bucket
from unique_users.report import Format, Reporter, Summary
from unique_users.schedule import Every
from unique_users.tally import Tally

POLL_SECONDS = 0.5


@dataclass
class Counted:
    """One partition of `bucketed` that this process counts."""

    position: int
    committed: int
    tally: Tally = field(default_factory=Tally)


class Counting:
    """Reads `bucketed`, reports counts. Call open, step until it returns False, close."""

    def __init__(
        self,
        config: Config,
        consumer: Consumer,
        stop: Stop,
        monotonic: Callable[[], float],
        wall_clock: Callable[[], float],
        form: Format = "text",
        until: Mapping[int, int] | None = None,
    ) -> None:
        self._config = config
        self._consumer = consumer
        self._stop = stop
        self._wall_clock = wall_clock
        self._form = form
        self._until = until
        self._partitions: dict[int, Counted] = {}
        self._unopened: set[int] = set()
        self._reporter = Reporter()
        self._save_due = Every(config.counter.save_seconds, monotonic)
        self._report_due = Every(config.counter.report_seconds, monotonic)
        self._messages_read = 0
        self._unreadable = 0

    def step(self) -> bool:
        """Poll once and handle what came; return False when a stop is requested or the end is reached."""
        if self._stop.requested:
            return False
        wait = min(POLL_SECONDS, self._save_due.remaining(), self._report_due.remaining())
        polled = self._consumer.poll(wait)
        for partition in polled.lost:
            self._partitions.pop(partition, None)
            self._unopened.discard(partition)
        self._unopened |= polled.taken
        self._open_partitions()
        for batch in polled.batches:
            if batch.partition in self._partitions:
                self._handle(batch)
        if self._save_due.due():
            self.save()
        if self._report_due.due() and self._until is None:
            self.report()
        return not self._caught_up()

    def save(self) -> None:
        """Let the group's committed offsets follow, for tools that show the lag."""
        moved = {p: c for p, c in self._partitions.items() if c.position > c.committed}
        try:
            if moved and self._consumer.commit({p: Position(c.position) for p, c in moved.items()}):
                for counted in moved.values():
                    counted.committed = counted.position
        except BrokerAwayError:
            pass  # the report says so; the offsets follow when it is back

    def report(self) -> None:
        """Print the buckets that changed since the last report, and the summary."""
        changes = self._reporter.changes(self.counts())
        for change in changes:
            print(change.line(self._form))
        now = int(self._wall_clock())
        behind = lag(self._consumer, {p: counted.position for p, counted in self._partitions.items()})
        summary = Summary(now, self._messages_read, len(changes), behind, self._unreadable)
        print(summary.line(self._form), flush=True)
        self._messages_read = self._unreadable = 0

    def counts(self) -> Mapping[int, int]:
        """The unique users of each bucket, over all partitions: a user stands in one of them."""
        total: Counter[int] = Counter()
        for counted in self._partitions.values():
            total.update(counted.tally.counts())
        return total

    def close(self) -> None:
        """Save, report what changed since the last report, leave the group."""
        self.save()
        self.report()
        self._consumer.close()

    def _open_partitions(self) -> None:
        topic = self._config.topics.bucketed.name
        for partition in sorted(self._unopened):
            try:
                offset = readable_offset(self._consumer, topic, partition, None)
            except BrokerAwayError:
                return
            self._partitions[partition] = Counted(offset, offset)
            self._consumer.start(partition, offset)
            self._unopened.discard(partition)

    def _handle(self, batch: Batch) -> None:
        users = users_by_bucket(batch.keys, batch.values)
        counted = self._partitions[batch.partition]
        for bucket, uids in users.by_bucket.items():
            counted.tally.add(bucket, uids)
        counted.position = batch.next_offset
        self._messages_read += len(batch.offsets)
        self._unreadable += users.unreadable

    def _caught_up(self) -> bool:
        if self._until is None or not self._partitions or self._unopened:
            return False
        try:
            return all(self._consumer.position(p) >= self._until.get(p, 0) for p in self._partitions)
        except BrokerAwayError:
            return False
