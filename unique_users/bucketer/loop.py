"""The bucketer's loop: frames of `feed` become records of `bucketed`, keyed by their minute.

At least once: 1. send everything made from some frames, 2. wait until all of it is acknowledged, 3. commit the frames'
position. Whatever happens in between, the next start reads the frames again, and a frame that arrives twice changes no
count.
"""

import logging
from contextlib import suppress

from unique_users.bucketer.assigned_partitions import FeedPartitions
from unique_users.bucketer.explaining import Explaining
from unique_users.bucketer.rekey import Rekeyer, all_rejected
from unique_users.bucketer.reporter import Reporter
from unique_users.bucketer.writer import ACKNOWLEDGE_SECONDS, Writer
from unique_users.clients.protocols import Batch, Polled
from unique_users.config.schema import Config
from unique_users.errors import BrokerAwayError, BrokerError, DeliveryError, TooLargeError, TopicError
from unique_users.messages.frame import Reason
from unique_users.messages.frame_totals import FrameTotals
from unique_users.partition_log.deleted_records import say_unreadable
from unique_users.runtime.activity import Step, timed
from unique_users.runtime.heartbeat import alive
from unique_users.runtime.no_partition import NoPartition
from unique_users.runtime.signals import Stop
from unique_users.runtime.timer import Timer

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
STOP_SECONDS = 3.0  # how long a stop waits for the last acknowledgements and the last commit
COMMIT_FRAMES_MAX = 200_000  # a commit at least this often, however fast frames come


class Bucketing:
    """Reads `feed`, writes `bucketed` and `rejected`, commits. Call open, step until it returns False, close."""

    def __init__(
        self,
        config: Config,
        partitions: FeedPartitions,
        writer: Writer,
        rekeyer: Rekeyer,
        reporter: Reporter,
        stop: Stop,
    ) -> None:
        self._config = config
        self._writer = writer
        self._rekeyer = rekeyer
        self._explaining = Explaining(config, stop.monotonic)
        self._reporter = reporter
        self._stop = stop
        self._monotonic = stop.monotonic
        self._uncommitted = 0
        self._refused_at: dict[int, int] | None = None  # the committed positions when a record was too large
        self._commit_due = Timer(config.bucketer.commit_seconds, stop.monotonic)
        self._report_due = Timer(config.bucketer.report_seconds, stop.monotonic)
        self._no_partition = NoPartition(_log, config.topics.feed.name, config.bucketer.group, stop.monotonic)
        self.partitions = partitions
        self.counts = FrameTotals()  # committed by this process

    def open(self) -> None:
        """Connect the producer; waits for the broker."""
        self._writer.open()

    def step(self) -> bool:
        """Poll once and handle what arrived. Returns False when a stop is requested or the end is reached."""
        if self._stop.requested or not self._writer.is_open:
            return False
        alive()
        finished = False
        try:
            if missing := self._writer.missing_topics():
                if self._writer.let_go_of(missing):
                    self._read_again()
                self._stop.wait(POLL_SECONDS)
            elif self._writer.backpressure_eased():
                finished = self._read_on()
            else:
                return True
        except DeliveryError as error:
            self._start_over(error)
        if self._report_due.due() or self._first_counts():
            self.report()
        return not finished

    def commit(self) -> bool:
        """Commit what is acknowledged. Returns False if that is not everything yet, or the group is rebalancing."""
        due = self.partitions.to_commit()
        if not due:
            return True
        with timed(Step.FLUSH):
            if not self._writer.flush():
                return False
        try:
            self._writer.check_topics()
            if self.partitions.read_again_if_recreated():
                self._uncommitted = 0
                return False
            with timed(Step.COMMIT):
                done = self.partitions.commit(due, self._writer.checked_layout())
        except BrokerAwayError:
            return False
        if done:
            self._writer.acknowledged()
            for partition in due.values():
                self.counts += partition.pending
                partition.mark_committed()
            self._uncommitted = 0
        return done

    def report(self) -> None:
        """Report what this process has committed and what is left to do."""
        self._reporter.report(self.counts, self._writer.missing_topics())
        self._explaining.report()

    def close(self) -> None:
        """Commit what can be committed in a few seconds, report, leave the group."""
        deadline = self._monotonic() + STOP_SECONDS
        try:
            while not self.commit() and self._monotonic() < deadline:
                alive()
                self.partitions.stay()
        except DeliveryError as error:
            _log.warning(f"{error}; the next start reads these frames again")
        if uncommitted := self.partitions.uncommitted_frames():
            _log.warning(f"{uncommitted} frames are not committed: the next start reads them again")
        self.report()
        self._writer.close()
        self.partitions.close()

    def _first_counts(self) -> bool:
        """Whether there is something to report for the first time: nobody should wait a minute to see that it works."""
        return bool(self.counts.read and not self._reporter.frames_reported) and not self.partitions.has_end

    def _read_on(self) -> bool:
        """Poll once and handle what arrived. Returns whether the end is reached. Raises DeliveryError."""
        polled = self._poll()
        for batch in polled.batches:
            self._handle(batch)
        self.partitions.follow(polled.assigned, self._writer.checked_layout)
        if self._commit_due.due() or self._uncommitted >= COMMIT_FRAMES_MAX:
            with suppress(BrokerAwayError):
                self.partitions.read_again_if_recreated()  # even if nothing arrived: it may be as long as the old one
            self.commit()
        return self._caught_up()

    def _poll(self) -> Polled:
        try:
            with timed(Step.POLL):
                return self.partitions.poll(min(POLL_SECONDS, self._commit_due.remaining()))
        except TopicError:
            # To skip the damage, an operator moves the position past it; nothing read before may be lost then.
            deadline = self._monotonic() + STOP_SECONDS
            with suppress(BrokerError, DeliveryError):
                while not self.commit() and self._monotonic() < deadline:
                    self._stop.wait(POLL_SECONDS)
            raise

    def _handle(self, batch: Batch) -> None:
        partition = self.partitions.next_in(batch)
        if partition is None:
            return
        if batch.unreadable:
            say_unreadable(self._config.topics.feed.name, batch)
            rekeyed = all_rejected(len(batch.offsets), Reason.TOO_LARGE, batch.unreadable)
        else:
            with timed(Step.PARSE):
                rekeyed = self._rekeyer.rekey(batch.values, batch.timestamps_ms, partition.clock, batch.keys)
        with timed(Step.SEND):
            self._writer.send(batch, rekeyed)
        self._explaining.note(batch, rekeyed)
        partition.mark_read(batch, rekeyed.counts(), self._monotonic())
        self._uncommitted += len(batch.offsets)

    def _start_over(self, error: DeliveryError) -> None:
        """Go back to the last commit with a new producer: nothing after it is known to have arrived."""
        self._give_up_if_stuck(error)
        _log.warning(f"{error}; reading again from the last commit")
        self._writer.close()
        self._read_again()
        self._stop.wait(ACKNOWLEDGE_SECONDS)
        self._writer.open()

    def _read_again(self) -> None:
        self.partitions.read_again()
        self._uncommitted = 0

    def _give_up_if_stuck(self, error: DeliveryError) -> None:
        """Raise TopicError if a record is too large for `bucketed` again and nothing was committed in between."""
        if not isinstance(error, TooLargeError):
            return
        committed = self.partitions.committed()
        if committed and committed == self._refused_at:
            name = self._config.topics.bucketed.name
            raise TopicError(
                f"topic {name!r} refuses every record that the bucketer sends: {error}: raise its"
                " max.message.bytes with kafka-configs, and kafka.max_request_size if that is set"
            )
        self._refused_at = committed

    def _caught_up(self) -> bool:
        if not self.partitions.at_end():
            return False
        if not self.partitions.open:
            return self._no_partition.given_up()
        return self.commit()
