# ruff: noqa: SLF001  # kafka-python offers no other way in: its release is pinned, and tests/contract holds it to this
"""Have a consumer of kafka-python fetch while the records before are handled.

kafka-python asks for a partition's next records when it has handed out all that it holds of it, and its poll waits
until the I/O thread has sent that. An answer may be enough for several polls. So here the next one is asked for when
the first of them is handed out, behind the last whole batch, and the poll returns meanwhile. Of each partition one
answer waits at most. What does not go on where the consumer stands when its turn comes, kafka-python drops as ever.

Only what is known to be there is asked for ahead, and the broker does not gather more for it: a broker answers in
order, and a commit would wait behind a fetch that waits for records to come.
"""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from kafka import OffsetAndMetadata, TopicPartition
from kafka.consumer.fetcher import Fetcher

Positions = Mapping[TopicPartition, OffsetAndMetadata]


def fetch_ahead() -> None:
    """Change the client's class. To be called once."""
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
    """Positions stand still while the I/O thread looks at them. Raises what it raised."""
    asked, fetcher._asked = getattr(fetcher, "_asked", None), None
    if asked is not None and not asked.succeeded():
        fetcher._net.run(fetcher._manager.wait_for, asked, None)


def _ahead(create_fetch_requests: Any) -> Any:
    def ahead(fetcher: Any) -> Any:
        return create_fetch_requests(_Ahead(fetcher))

    return ahead


class _Ahead:
    """A fetcher that stands where it will stand when it has handed out the records in its hand."""

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
    """Where to fetch from, by partition; none of those of which an answer waits."""
    held, assignment = fetcher._next_partition_records, fetcher._subscriptions.assignment
    states = {partition: assignment.get(partition) for partition in fetcher._fetchable_partitions()}
    positions = {partition: state.position for partition, state in states.items() if state and state.position}
    if held and (end := getattr(held, "end", None)) and _goes_on(fetcher, held):
        offset, leader_epoch = end
        positions[held.topic_partition] = OffsetAndMetadata(offset, "", leader_epoch)
    return positions


def _goes_on(fetcher: Any, held: Any) -> bool:
    """Whether the records in hand are the next of their partition, and no answer of it waits behind them."""
    partition = held.topic_partition
    state = fetcher._subscriptions.assignment.get(partition)
    if state is None or not state.is_fetchable() or state.position.offset != held.next_fetch_offset:
        return False
    return all(fetch.topic_partition != partition for fetch in fetcher._completed_fetches.copy())


def _more_is_there(fetcher: Any, positions: Positions) -> bool:
    """Whether the broker had records behind one of these positions when it answered last."""
    states = {partition: fetcher._subscriptions.assignment.get(partition) for partition in positions}
    return any(state and (state.highwater or 0) > positions[partition].offset for partition, state in states.items())
