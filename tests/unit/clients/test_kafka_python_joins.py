"""A join of a group is taken once by the poll that follows it, and no join that failed is taken for an older one."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.coordinator.base import Generation, MemberState

from unique_users.clients.kafka_python.internals import joins


class Coordinator(SimpleNamespace):
    """As much of kafka-python's coordinator as a join changes."""

    def __init__(self) -> None:
        super().__init__(state=MemberState.UNJOINED, _generation=Generation.NO_GENERATION, answers=[])

    async def join(self) -> bytes:
        self.state = MemberState.REBALANCING
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        self._generation = Generation(len(answer), "member", "sticky")
        return bytes(answer)


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


def joined(coordinator: Coordinator) -> Any:
    return asyncio.run(joins._once(Coordinator.join)(coordinator))


def test_what_a_join_gave_is_kept_until_it_is_applied(coordinator: Coordinator) -> None:
    coordinator.answers = [b"a", b"bb"]
    assert [joined(coordinator), joined(coordinator)] == [b"a", b"a"]
    coordinator.state = MemberState.STABLE
    assert joined(coordinator) == b"bb"


def test_a_member_that_was_thrown_out_meanwhile_joins_again(coordinator: Coordinator) -> None:
    coordinator.answers = [b"a", b"bb"]
    joined(coordinator)
    coordinator._generation = Generation(-1, "", None)
    assert joined(coordinator) == b"bb"


def test_what_was_applied_is_not_taken_again_after_a_join_that_failed(coordinator: Coordinator) -> None:
    coordinator.answers = [b"a", ConnectionError("the broker went away"), b"bb"]
    joined(coordinator)
    coordinator.state = MemberState.STABLE
    with pytest.raises(ConnectionError):
        joined(coordinator)
    assert joined(coordinator) == b"bb"
