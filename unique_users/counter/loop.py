"""The counter's loop: records of `bucketed` become counts of unique users."""

import logging
import time

from unique_users.config.schema import Config
from unique_users.counter.assigned_partitions import CountedPartitions
from unique_users.counter.publishing import Publishing
from unique_users.counter.reporter import Reporter
from unique_users.pipeline.progress import ProgressSource
from unique_users.runtime.activity import ACTIVITY, Step, timed
from unique_users.runtime.heartbeat import alive, busy
from unique_users.runtime.no_partition import NoPartition
from unique_users.runtime.signals import Stop
from unique_users.runtime.timer import Timer

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.5


class Counting:
    """Reads `bucketed`, keeps the state, publishes and reports counts.

    Call step until it returns False, then close. Raises StateError when the state cannot be trusted or written.
    """

    def __init__(
        self,
        config: Config,
        partitions: CountedPartitions,
        publishing: Publishing,
        reporter: Reporter,
        progress: ProgressSource,
        stop: Stop,
    ) -> None:
        self._publishing = publishing
        self._reporter = reporter
        self._progress = progress
        self._stop = stop
        settings = config.counter
        self._save_due = Timer(min(settings.save_seconds, settings.publish_seconds), stop.monotonic)
        self._report_due = Timer(settings.report_seconds, stop.monotonic)
        self._no_partition = NoPartition(_log, config.topics.bucketed.name, settings.group, stop.monotonic)
        self.partitions = partitions

    def step(self) -> bool:
        """Poll once and handle what arrived. Returns False when a stop is requested or the end is reached."""
        if self._stop.requested:
            return False
        alive()
        with timed(Step.POLL):
            polled = self.partitions.poll(min(POLL_SECONDS, self._save_due.remaining(), self._report_due.remaining()))
        for batch in polled.batches:
            with timed(Step.UPDATE):
                self._reporter.messages_read += self.partitions.add(batch)
        self.partitions.follow(polled.assigned)
        if saved := self._save_due.due():
            self.save()
        # The first time as soon as something is saved: nobody should wait a minute to see that it works.
        first = saved and not self._reporter.reported and self._reporter.messages_read > 0
        if (self._report_due.due() or first) and not self.partitions.has_end:
            self.report()
        return not self._caught_up()

    def save(self) -> None:
        """Bring state and broker up to date.

        1. make sure that the topic is still the same, even if nothing arrived: a changed one may bring nothing more
        2. hand over records for buckets that are gone; a save goes no further than what has arrived
        3. save
        4. let the group's offsets follow
        5. publish what is saved while the group's answer is fresh, then drop what is closed and past its retention
        """
        if not self.partitions.still_the_same_topic():
            return
        self._publishing.look_at_counts(self.partitions)
        self._publishing.deliver_late(self.partitions)
        with timed(Step.SAVE):
            self.partitions.save()
        ACTIVITY.saved_at = time.time()
        with timed(Step.COMMIT):
            if not self.partitions.commit():
                return
        with timed(Step.PUBLISH):
            if self._publishing.publish(self.partitions):
                ACTIVITY.published_at = time.time()
        self.partitions.follow_progress(self._progress.current())
        self._drop_old()

    def report(self, *, everything: bool = False) -> None:
        """Report the buckets that changed since the last report, or every bucket held, and what is left to do."""
        self._reporter.report(self._publishing.missing_topics(), everything=everything)

    def close(self) -> None:
        """Save, publish, report what changed since the last report, leave the group."""
        self.save()
        if self.partitions.has_end:
            self._progress.look()  # what is held at the end must not depend on when it was last looked at
            self.partitions.follow_progress(self._progress.current())
            self.save()
        self._publishing.say_what_is_left(self.partitions)
        self.report(everything=self.partitions.has_end)
        self._publishing.close()
        self.partitions.close()

    @busy()
    def _drop_old(self) -> None:
        for partition in self.partitions.open.values():
            dropped = partition.drop_old()
            if self.partitions.has_end:
                for bucket in dropped:  # the only report is of what is held at the end
                    partition.new.pop(bucket, None)
            else:
                self._reporter.note_closed(partition, dropped)

    def _caught_up(self) -> bool:
        if not self.partitions.at_end():
            return False
        return bool(self.partitions.open) or self._no_partition.given_up()
