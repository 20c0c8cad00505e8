"""Whether the topic still holds what an export has read of it: brokers lose records, and others take their place."""

from collections.abc import Callable, Mapping, Sequence

from unique_users.clients.protocols import Batch, Consumer, RecordLookup
from unique_users.exports.progress import Progress
from unique_users.messages.checkpoints import NEWEST, Checkpoint
from unique_users.partition_log.cut_back import HistoryCheck
from unique_users.partition_log.read_history import Past

RECENT = 2


class SameLog:
    """Compares the partitions with the progress: at the start of a session, and with each batch that follows."""

    def __init__(
        self, topic: str, consumer: Consumer, new_record_lookup: Callable[[], RecordLookup], progress: Progress | None
    ) -> None:
        self._check = HistoryCheck(topic, consumer, new_record_lookup, lambda: (0.0, 0))
        self._offsets = progress.offsets if progress else {}
        self._histories = progress.histories if progress else {}
        self._pasts = {partition: self._past(partition) for partition in self._histories}

    def is_cut_back(self, bounds: Mapping[int, tuple[int, int]]) -> bool:
        """Whether records are gone that the progress has read. Raises BrokerAwayError."""
        known = [(partition, at) for partition, at in self._offsets.items() if partition in bounds]
        return any(self._check.opened(p, self._past(p), at, bounds[p]) for p, at in known)

    def start_again(self) -> None:
        """Forget what was read: the topic is read from its start."""
        self._offsets, self._histories, self._pasts = {}, {}, {}

    def continues(self, batches: Sequence[Batch], offsets: Mapping[int, int]) -> bool:
        """Whether batches follow what was read up to these offsets, also under a new leader. Raises BrokerAwayError."""
        return all(self._continues(batch, offsets.get(batch.partition, 0)) for batch in batches)

    def read(self, batches: Sequence[Batch]) -> dict[int, tuple[Checkpoint, ...]]:
        """Note what is being written. Returns what to keep of each partition's history."""
        for batch in batches:
            self._pasts[batch.partition].read(batch, 0.0)
        return {partition: past.remember() for partition, past in self._pasts.items()}

    def close(self) -> None:
        """Close the connections."""
        self._check.close()

    def _continues(self, batch: Batch, position: int) -> bool:
        partition = batch.partition
        past = self._pasts.setdefault(partition, self._past(partition))
        if not self._check.continues(past, position, batch):
            if self._check.differs(partition, past, position):
                return False
            self._check.settle(partition, past)
        return True

    def _past(self, partition: int) -> Past:
        return Past(self._histories.get(partition, ()), NEWEST, RECENT)
