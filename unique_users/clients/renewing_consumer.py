"""A consumer that is replaced when its topic is recreated."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from unique_users.clients.protocols import REQUEST_SECONDS, Consumer, Polled, Position, Seen
from unique_users.errors import BrokerAwayError
from unique_users.runtime.activity import ACTIVITY


class RenewedConsumer:
    """See protocols.Consumer.

    librdkafka accepts no leader with a lower epoch than it knows, and applies what it knew of a topic to the next one
    of that name, which it may therefore never read. A new consumer does; all partitions of the old one are lost.
    """

    def __init__(self, first: Consumer, make: Callable[[], Consumer], recreated: Callable[[], int]) -> None:
        self._consumer = first
        self._make = make
        self._recreated = recreated  # how often the topic was recreated
        self._made_for = recreated()
        self._owned: frozenset[int] = frozenset()

    def poll(self, timeout_seconds: float) -> Polled:
        if (now := self._recreated()) != self._made_for:
            try:
                fresh = self._make()
            except BrokerAwayError:
                return Polled([])
            self._made_for = now
            self._replace(fresh)
            revoked, self._owned = self._owned, frozenset()
            return Polled([], revoked=revoked)
        polled = self._consumer.poll(timeout_seconds)
        self._owned = self._owned - polled.revoked | polled.assigned
        ACTIVITY.rebalances += bool(polled.revoked or polled.assigned)
        for batch in polled.batches:
            ACTIVITY.received(batch.keys, batch.values)
        return polled

    def _replace(self, fresh: Consumer) -> None:
        with suppress(Exception):  # whatever it is, it concerns the old topic
            self._consumer.close()
        self._consumer = fresh

    def seek(self, partition: int, offset: int) -> None:
        self._consumer.seek(partition, offset)

    def position(self, partition: int) -> int:
        return self._consumer.position(partition)

    def seen(self, partitions: Iterable[int]) -> dict[int, Seen]:
        return self._consumer.seen(partitions)

    def committed(self, partitions: Iterable[int]) -> dict[int, Position]:
        return self._consumer.committed(partitions)

    def commit(self, positions: Mapping[int, Position], timeout_seconds: float = REQUEST_SECONDS) -> bool:
        return self._consumer.commit(positions, timeout_seconds)

    def watermark_offsets(
        self, partitions: Iterable[int], timeout_seconds: float = REQUEST_SECONDS
    ) -> dict[int, tuple[int, int]]:
        return self._consumer.watermark_offsets(partitions, timeout_seconds)

    def high_watermark_offsets(
        self, partitions: Iterable[int], timeout_seconds: float = REQUEST_SECONDS
    ) -> dict[int, int]:
        return self._consumer.high_watermark_offsets(partitions, timeout_seconds)

    def offsets_at(self, partitions: Iterable[int], at_ms: int) -> dict[int, int]:
        return self._consumer.offsets_at(partitions, at_ms)

    def close(self) -> None:
        self._consumer.close()
