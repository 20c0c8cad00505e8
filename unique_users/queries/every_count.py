"""All published counts in memory: the topic from its start, and on from there, without a consumer group."""

from collections.abc import Callable

from unique_users.clients.protocols import Consumer
from unique_users.event_time.buckets import Bucket
from unique_users.messages.merged_counts import ReadCounts, every_bucket
from unique_users.queries.whole_topic import WholeTopic
from unique_users.runtime.heartbeat import alive

POLL_SECONDS = 0.5


class EveryCount:
    """Reads with a new consumer from `connect.get_reader`. Every method may raise BrokerAwayError or BrokerError.

    After an error, give another one the same `counts`: reading records again changes nothing in them.
    """

    def __init__(
        self, reader: Consumer, wanted: Callable[[Bucket], bool] = every_bucket, counts: ReadCounts | None = None
    ) -> None:
        self.counts = counts or ReadCounts(wanted=wanted)
        self._topic = WholeTopic(reader)
        bounds = self._topic.watermark_offsets()
        self._ends = {partition: end for partition, (_, end) in bounds.items()}
        self._topic.start({partition: first for partition, (first, _) in bounds.items()})

    @property
    def caught_up(self) -> bool:
        """Whether everything is read that the topic held at the start."""
        return self._topic.is_at(self._ends)

    def step(self, timeout_seconds: float = POLL_SECONDS) -> None:
        """Read on for a moment."""
        alive()
        for batch in self._topic.poll(timeout_seconds):
            for key, value in zip(batch.keys, batch.values, strict=True):
                self.counts.add(key, value)
