"""The harness's own questions to a broker that has just come back."""

import pytest
from kafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError
from topics_on_broker import PatientAdmin

from unique_users.errors import BrokerAwayError


class Reconnecting:
    """An admin whose client waits before it connects again, and then answers or says how that went."""

    def __init__(self, *errors: KafkaError) -> None:
        self.errors = list(errors)

    def ends(self, topic: str) -> int:
        if self.errors:
            raise self.errors.pop(0)
        return len(topic)

    def explained_ends(self, topic: str) -> int:
        try:
            return self.ends(topic)
        except KafkaError:
            raise BrokerAwayError("no answer") from None


def test_a_request_that_was_not_sent_is_made_again() -> None:
    waiting = NodeNotReadyError("No node_id provided")
    assert PatientAdmin(Reconnecting(waiting, waiting)).ends("feed") == 4
    assert PatientAdmin(Reconnecting(waiting)).explained_ends("feed") == 4


def test_a_request_that_may_have_been_sent_is_not_made_twice() -> None:
    with pytest.raises(KafkaConnectionError):
        PatientAdmin(Reconnecting(KafkaConnectionError("closed"))).ends("feed")
    with pytest.raises(BrokerAwayError):
        PatientAdmin(Reconnecting(KafkaConnectionError("closed"))).explained_ends("feed")
