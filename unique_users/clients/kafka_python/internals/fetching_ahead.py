# ruff: noqa: SLF001  # kafka-python offers no other way in: its release is pinned, and tests/contract holds it to this
"""Have a kafka-python consumer fetch while the previous records are being handled.

kafka-python requests a partition's next records once it has handed out everything it holds of it, and its poll waits
until the I/O thread has sent that request. One answer may be enough for several polls. So here the next request goes
out with the first of those polls, for the offset after the last whole batch, and the poll does not wait for it. At most
one answer per partition is waiting. If it does not fit the consumer's position in the end, kafka-python drops it.

Only records known to be there are requested ahead, and the broker does not gather more for them: a broker answers in
order, and a commit would wait behind a fetch that waits for records to arrive.
"""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from kafka import OffsetAndMetadata, TopicPartition
from kafka.consumer.fetcher import Fetcher

Positions = Mapping[TopicPartition, OffsetAndMetadata]


def fetch_ahead() -> None:
    """Patch the client's class. Call it once."""
    Fetcher.fetch_records = _without_waiting(Fetcher.fetch_records)
    Fetcher._create_fetch_requests = _ahead(Fetcher._create_fetch_requests)


def _without_waiting(fetch_records: Any) -> Any:
    def without_waiting(fetcher: Any, max_records: int, *, update_offsets: bool, timeout_ms: float) -> Any:
        _settle(fetcher)
        idle = False
        records, _ = fetcher.fetched_records(max_records, update_offsets=update_offsets)
        if not records:
            records, idle = fetch_records(fetcher, max_records, update_offsets, timeout_ms)
        if records and not fetcher._completed_fetches and _more_is_there(fetcher, _positions_ahead(fetcher)):
            fetcher._asked = fetcher._manager.call_soon(fetcher._send_fetches_async)
        return records, idle

    return without_waiting


def _settle(fetcher: Any) -> None:
    """Wait until the I/O thread no longer looks at the positions. Raises what it raised."""
    asked, fetcher._asked = getattr(fetcher, "_asked", None), None
    if asked is not None and not asked.succeeded():
        fetcher._net.run(fetcher._manager.wait_for, asked, None)


def _ahead(create_fetch_requests: Any) -> Any:
    def ahead(fetcher: Any) -> Any:
        return create_fetch_requests(_Ahead(fetcher))

    return ahead


class _Ahead:
    """A fetcher positioned where it will be once it has handed out the records it holds."""

    def __init__(self, fetcher: Any) -> None:
        self._fetcher = fetcher
        positions = _positions_ahead(fetcher)
        self._subscriptions = SimpleNamespace(
            assignment={partition: SimpleNamespace(position=position) for partition, position in positions.items()}
        )
        there = _more_is_there(fetcher, positions)
        self.config = {**fetcher.config, "fetch_min_bytes": 1} if there else fetcher.config

    def _fetchable_partitions(self) -> list[TopicPartition]:
        return list(self._subscriptions.assignment)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fetcher, name)


def _positions_ahead(fetcher: Any) -> Positions:
    """Where to fetch from, by partition, except those with an answer waiting."""
    held, assignment = fetcher._next_partition_records, fetcher._subscriptions.assignment
    states = {partition: assignment.get(partition) for partition in fetcher._fetchable_partitions()}
    positions = {partition: state.position for partition, state in states.items() if state and state.position}
    if held and (end := getattr(held, "end", None)) and _goes_on(fetcher, held):
        offset, leader_epoch = end
        positions[held.topic_partition] = OffsetAndMetadata(offset, "", leader_epoch)
    return positions


def _goes_on(fetcher: Any, held: Any) -> bool:
    """Whether the records held are the next of their partition, and no other answer for it is waiting."""
    partition = held.topic_partition
    state = fetcher._subscriptions.assignment.get(partition)
    if state is None or not state.is_fetchable() or state.position.offset != held.next_fetch_offset:
        return False
    return all(fetch.topic_partition != partition for fetch in fetcher._completed_fetches.copy())


def _more_is_there(fetcher: Any, positions: Positions) -> bool:
    """Whether the broker had records after one of these positions when it last answered."""
    states = {partition: fetcher._subscriptions.assignment.get(partition) for partition in positions}
    return any(state and (state.highwater or 0) > positions[partition].offset for partition, state in states.items())
