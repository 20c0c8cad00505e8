"""Whether the log of a partition is still the one that was read: checked when a loop opens it, and later on."""

import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

from unique_users.clients.protocols import Batch, Consumer, RecordLookup
from unique_users.event_time.buckets import iso_time
from unique_users.messages.checkpoints import Checkpoint, Found, compare, record_hash
from unique_users.partition_log.deleted_records import ANSWER_SECONDS, OTHER, RECREATED
from unique_users.partition_log.read_history import Past

_log = logging.getLogger(__name__)

LOOKUP_SECONDS = 2.0  # for one record: rarely needed, and nothing is read before the answer


class _Doubt(NamedTuple):
    leader_epoch: int  # of the records waiting to be read, -1 if unknown
    before: bool  # they are before the position


class HistoryCheck:
    """Recognises that the log of a partition was cut back under its reader.

    A partition is *in doubt* from the first sign of that until `settle` has looked at the log: the broker did not
    answer for a while, another leader took the new records, or these are before the position. Records that arrive
    meanwhile must not be handled; they are read again afterwards.
    """

    def __init__(
        self,
        topic: str,
        consumer: Consumer,
        new_record_lookup: Callable[[], RecordLookup],
        answers: Callable[[], tuple[float, int]],  # see TopicWatch.answers
    ) -> None:
        self._topic = topic
        self._consumer = consumer
        self._new_record_lookup = new_record_lookup
        self._lookup: RecordLookup | None = None
        self._answers = answers
        _, self._breaks = answers()
        self._doubts: dict[int, _Doubt] = {}

    @property
    def in_doubt(self) -> list[int]:
        """The partitions to settle."""
        return sorted(self._doubts)

    def opened(self, partition: int, past: Past, position: int, low_high: tuple[int, int]) -> Found | None:
        """How the log differs from what was read up to a saved position. Raises BrokerAwayError."""
        found = compare(past.history, past.newest(), low_high, self._agrees(partition))
        return found or _beyond(position, low_high)

    def notice(self, pasts: Mapping[int, Past]) -> None:
        """Doubt every partition if the broker was away. Call it before handling a poll."""
        answered_at, breaks = self._answers()
        if breaks != self._breaks:
            self._breaks = breaks
            for partition in pasts:
                self._doubts.setdefault(partition, _Doubt(-1, before=False))
        for partition, past in pasts.items():
            if partition not in self._doubts:
                past.sure(answered_at)

    def continues(self, past: Past, position: int, batch: Batch) -> bool:
        """Whether a batch may be handled as the next one; otherwise its partition is in doubt."""
        before = batch.offsets[0] < position
        if before or past.new_leader(batch):
            self._doubts[batch.partition] = _Doubt(batch.leader_epoch, before=before)
        return batch.partition not in self._doubts

    def differs(self, partition: int, past: Past, position: int) -> Found | None:
        """How the log of a partition in doubt differs from what was read. Raises BrokerAwayError."""
        low_high = self._consumer.watermark_offsets([partition], ANSWER_SECONDS)[partition]
        suspects = past.suspects()
        found = compare(past.history, suspects, low_high, self._agrees(partition))
        if found is None and not suspects and self._doubts[partition].before:
            return Found(None, *low_high, differs_at=low_high[0])  # nothing is known of what was read
        return found or _beyond(position, low_high)

    def settle(self, partition: int, past: Past) -> None:
        """Note that the partition is read on, or read again, as the log is now."""
        past.trust(self._doubts.pop(partition).leader_epoch)

    def forget(self, partition: int) -> None:
        """Note that the partition is no longer read, or is about to be reopened."""
        self._doubts.pop(partition, None)

    def say(self, partition: int, found: Found, position: int, minutes: tuple[int, int] | None = None) -> None:
        """Say in one line how a log differs from what was read up to a position, and which minutes are marked."""
        if found.back_to is None:
            why = RECREATED if position > found.end else OTHER
            _log.warning(
                f"{self._topic}-{partition}: was read up to offset {position}, but {why}: reading it from its start"
            )
            return
        marked = ""
        if minutes:
            first, last = map(iso_time, minutes)
            marked = f"; minutes {first} to {last} are marked, because they may include users of lost records"
        _log.warning(
            f"{self._topic}-{partition}: was cut back: offset {found.differs_at} no longer holds the record read"
            f" there: reading again from offset {found.offset}, up to which nothing changed{marked}"
        )

    def close(self) -> None:
        """Close the connections."""
        if self._lookup is not None:
            self._lookup.close()

    def _agrees(self, partition: int) -> Callable[[Checkpoint], bool | None]:
        def agrees(checkpoint: Checkpoint) -> bool | None:
            if self._lookup is None:
                self._lookup = self._new_record_lookup()
            record = self._lookup.record_at(partition, checkpoint.next_offset - 1, LOOKUP_SECONDS)
            if record is None:
                return None
            epochs = {record.leader_epoch, checkpoint.leader_epoch} - {-1}
            same_record = record_hash(record.key, record.value, record.timestamp_ms) == checkpoint.record_hash
            return same_record and len(epochs) < 2  # noqa: PLR2004 - two different ones

        return agrees


def _beyond(position: int, low_high: tuple[int, int]) -> Found | None:
    """For a log that ends before the position, if nothing is remembered of it."""
    first, end = low_high
    return Found(None, first, end, end) if position > end else None
