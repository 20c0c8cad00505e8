# ruff: noqa: SLF001  # kafka-python offers no other way in: its release is pinned, and tests/contract holds it to this
"""Have kafka-python 3.0.12 finish a group join that it has begun, however short the polls are.

A join continues across polls, each of which waits for it for a while.

1. A poll that finds the join done begins another, for which all members must join again. Members whose joins end
   between polls, because each waits for the other, never settle. Here the poll takes the result of the join.
2. A join can lose its reason before it is done, and its end then waits for the next reason; the member keeps its
   place in the group and reads nothing. Here a join that has begun is reason enough.
"""

from typing import Any

from kafka.coordinator.base import MemberState
from kafka.coordinator.consumer import ConsumerCoordinator

_NOTHING = (None, b"")


def finish_joins() -> None:
    """Patch the client's class. Call it once."""
    coordinator = ConsumerCoordinator
    coordinator._do_join_and_sync_async = _once(coordinator._do_join_and_sync_async)
    coordinator.need_rejoin = _until_done(coordinator.need_rejoin)


def _once(join: Any) -> Any:
    async def once(coordinator: Any) -> bytes:
        # Each join has a generation object of its own; the state is stable once the assignment was applied.
        of, assignment = getattr(coordinator, "_joined", _NOTHING)
        if of is not coordinator._generation or coordinator.state is not MemberState.REBALANCING:
            coordinator._joined = _NOTHING  # also if this join fails: what was applied is of no use again
            assignment = await join(coordinator)
            coordinator._joined = coordinator._generation, assignment
        return bytes(assignment)

    return once


def _until_done(need_rejoin: Any) -> Any:
    def until_done(coordinator: Any) -> bool:
        return coordinator.rejoining or bool(need_rejoin(coordinator))

    return until_done
