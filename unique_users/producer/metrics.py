"""The metrics of a producer."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import Metric

from unique_users.messages.frame import Reason
from unique_users.messages.frame_totals import FrameTotals
from unique_users.metrics.families import frames, traffic_out
from unique_users.producer.replay import Replay


class ProducerSource:
    """Of a producer: ready as long as it runs."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    def families(self) -> Iterator[Metric]:
        yield from traffic_out()
        sent = self._replay.sent
        rejected = Counter({Reason.TOO_LARGE.value: sent.cut})
        yield from frames(FrameTotals(sent.frames + sent.cut, sent.frames, rejected))

    def not_ready(self) -> str:
        return ""
