"""What the producer reports: how much was acknowledged."""

from collections import Counter
from collections.abc import Callable, Sequence

from unique_users.messages.frame import Reason
from unique_users.messages.frame_totals import FrameTotals
from unique_users.producer.frame_files import FrameFiles
from unique_users.producer.replay import Replay
from unique_users.reports.meter import Meter
from unique_users.reports.output import Output
from unique_users.reports.report import ProducerReport
from unique_users.runtime.heartbeat import busy
from unique_users.runtime.timer import Timer


class Reporter:
    """Passes reports to every output: the first as soon as something is acknowledged, then every `seconds`."""

    def __init__(
        self,
        seconds: float,
        file: FrameFiles,
        replay: Replay,
        outputs: Sequence[Output],
        monotonic: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._file = file
        self._replay = replay
        self._outputs = outputs
        self._due = Timer(seconds, monotonic)
        self._meter = Meter(monotonic)
        self._wall_clock = wall_clock

    def due(self) -> bool:
        """Whether to report now."""
        return self._due.due() or bool(self._replay.sent.frames and not self._meter.reported)

    def report(self) -> None:
        """Report what was acknowledged."""
        sent = self._replay.sent
        rejected = Counter({Reason.TOO_LARGE.value: sent.cut} if sent.cut else {})
        frames = FrameTotals(sent.frames + sent.cut, sent.frames, rejected)
        report = ProducerReport(
            at=int(self._wall_clock()),
            reading=self._meter.read(frames.read),
            frames=frames,
            blank_lines=self._file.blank_lines,
        )
        with busy():
            for output in self._outputs:
                output.report(report)
