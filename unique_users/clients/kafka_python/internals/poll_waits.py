# ruff: noqa: SLF001  # kafka-python offers no other way in: its release is pinned, and tests/contract holds it to this
"""Have a poll of kafka-python 3.0.12 never wait for something that is already there.

1. A fetch that is answered while a poll looks for one to wait for counts as not in flight, and the poll sleeps for
   `retry_backoff_ms` next to its records (docs/upstream.md). Here it looks once more; without a broker it still sleeps.
2. Each poll has the I/O thread report whether the group's coordinator is known, and waits while that thread receives
   records. Here it looks itself, and asks only if the coordinator is unknown or not connected.
"""

from typing import Any

from kafka.consumer.fetcher import Fetcher
from kafka.coordinator.consumer import ConsumerCoordinator


def wait_less() -> None:
    """Patch the client's classes. Call it once."""
    Fetcher.fetch_records = _looking_again(Fetcher.fetch_records)
    coordinator = ConsumerCoordinator
    coordinator.ensure_coordinator_ready = _knowing(coordinator.ensure_coordinator_ready)


def _looking_again(fetch_records: Any) -> Any:
    def looking_again(fetcher: Any, *arguments: Any, **settings: Any) -> Any:
        records, idle = fetch_records(fetcher, *arguments, **settings)
        return records, idle and not fetcher._completed_fetches

    return looking_again


def _knowing(ensure_coordinator_ready: Any) -> Any:
    def knowing(coordinator: Any, timeout_ms: float | None = None) -> bool:
        known = coordinator.coordinator_id
        if known is not None and coordinator._client.connected(known):
            return True
        return bool(ensure_coordinator_ready(coordinator, timeout_ms))

    return knowing
