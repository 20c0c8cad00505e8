"""What librdkafka's descriptions of topics and groups say, in the terms of the protocols."""

from typing import Any
from uuid import UUID

from unique_users.clients.protocols import Copies, GroupDetails, TopicDetails, TopicState


def state_of(topic: Any) -> TopicState:
    """A described topic's state."""
    return TopicState(_topic_id(topic.topic_id), len(topic.partitions))


def details_of(topic: Any) -> TopicDetails:
    """A described topic's copies and the rights to it."""
    copies = {
        part.id: Copies(len(part.replicas), len(part.isr) if part.leader is not None and part.leader.id >= 0 else 0)
        for part in topic.partitions
    }
    return TopicDetails(copies, _rights(topic.authorized_operations))


def group_of(group: Any) -> GroupDetails:
    """A described group."""
    return GroupDetails(len(group.members), _rights(group.authorized_operations))


def _rights(told: Any) -> frozenset[str] | None:
    return frozenset(operation.name for operation in told) if told else None


def _topic_id(uuid: Any) -> str:
    """The id as other clients write it; librdkafka has it as two signed halves, 0 if the broker has no ids."""
    if uuid is None:
        return ""
    mask = (1 << 64) - 1
    number = (uuid.get_most_significant_bits() & mask) << 64 | uuid.get_least_significant_bits() & mask
    return str(UUID(int=number)) if number else ""
