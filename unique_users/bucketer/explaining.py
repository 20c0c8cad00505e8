"""What the bucketer says about frames that it rejects."""

import logging
from collections.abc import Callable, Iterator

from unique_users.bucketer.rekey import Rekeyed
from unique_users.clients.protocols import Batch
from unique_users.config.schema import Config
from unique_users.messages.field_names import FirstFrames
from unique_users.reports.examples import Example, Examples

_log = logging.getLogger(__name__)


class Explaining:
    """Logs an example for each reason, and the fields that frames do have if none of the first ones is accepted."""

    def __init__(self, config: Config, monotonic: Callable[[], float]) -> None:
        self._feed = config.topics.feed.name
        self._monotonic = monotonic
        self._examples = Examples()
        self._first_frames = FirstFrames(config.frame.uid, config.frame.ts)

    def note(self, batch: Batch, rekeyed: Rekeyed) -> None:
        """Log what is worth saying about a batch of frames."""
        if rekeyed.rejected:
            self._say(*self._examples.lines(self._rejected(batch, rekeyed), self._monotonic()))
        if not self._first_frames.done:
            reasons = {rejected.reason.value for rejected in rekeyed.rejected}
            self._say(self._first_frames.add(batch.values, rekeyed.accepted, reasons))

    def report(self) -> None:
        """Log which fields there are if nothing was accepted so far, so that a report comes with the reason."""
        self._say(self._first_frames.told())

    def _rejected(self, batch: Batch, rekeyed: Rekeyed) -> Iterator[Example]:
        for rejected in rekeyed.rejected:
            where = f"{self._feed}-{batch.partition}@{batch.offsets[rejected.place]}"
            frame = batch.values[rejected.place] or b""
            if rejected.element:
                number, frame = rejected.element
                where = f"{where}[{number}]"
            yield Example(rejected.reason.value, rejected.detail, where, frame)

    def _say(self, *lines: str | None) -> None:
        for line in lines:
            if line is not None:
                _log.warning(line)
