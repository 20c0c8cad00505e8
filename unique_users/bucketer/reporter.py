"""What the bucketer reports: how much it has committed, and what is left to do."""

from collections.abc import Callable, Sequence

from unique_users.bucketer.assigned_partitions import FeedPartitions
from unique_users.config.schema import Config
from unique_users.messages.frame_totals import FrameTotals
from unique_users.reports.meter import Meter
from unique_users.reports.output import Output
from unique_users.reports.report import BucketerReport
from unique_users.runtime.heartbeat import busy


class Reporter:
    """Passes reports to every output."""

    def __init__(
        self,
        config: Config,
        partitions: FeedPartitions,
        outputs: Sequence[Output],
        monotonic: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._feed = config.topics.feed.name
        self._partitions = partitions
        self._outputs = outputs
        self._meter = Meter(monotonic)
        self._wall_clock = wall_clock

    @property
    def frames_reported(self) -> int:
        """How many frames the last report counted."""
        return self._meter.reported

    def report(self, committed: FrameTotals, missing: tuple[str, ...]) -> None:
        """Report what this process has committed, and ask the broker what is left."""
        report = BucketerReport(
            at=int(self._wall_clock()),
            reading=self._meter.read(committed.read),
            frames=committed,
            lag=None if self._feed in missing else self._partitions.lag(),
            partitions=tuple(sorted(self._partitions.open)),
            of=self._partitions.of,
            missing=missing,
            in_transactions=self._partitions.in_transactions(),
        )
        with busy():
            for output in self._outputs:
                output.report(report)
