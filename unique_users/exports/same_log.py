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

    def __init__(self, topic: str, consumer: Consumer, new_record_lookup: Callable[[], RecordLookup]) -> None:
        self._check = HistoryCheck(topic, consumer, new_record_lookup, lambda: (0.0, 0))
        self._pasts: dict[int, Past] = {}

    def is_cut_back(self, progress: Progress, bounds: Mapping[int, tuple[int, int]]) -> bool:
        """Whether records are gone that the progress has read. Raises BrokerAwayError."""
        known = [(partition, at) for partition, at in progress.offsets.items() if partition in bounds]
        return any(self._check.opened(p, _past(progress.histories.get(p, ())), at, bounds[p]) for p, at in known)

    def follow(self, progress: Progress) -> None:
        """Expect what comes after a progress, which was compared."""
        self._pasts = {partition: _past(history) for partition, history in progress.histories.items()}

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
        past = self._pasts.setdefault(partition, _past(()))
        if self._check.continues(past, position, batch):
            return True
        if self._check.differs(partition, past, position):
            return False
        self._check.settle(partition, past)
        return True


def _past(history: Sequence[Checkpoint]) -> Past:
    return Past(history, NEWEST, RECENT)
