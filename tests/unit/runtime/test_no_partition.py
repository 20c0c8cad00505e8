"""A process without a partition says why it waits, once, and then ends."""

import logging

import pytest
from fakes import FakeClock

from unique_users.runtime.no_partition import GIVE_UP_SECONDS, JOIN_SECONDS, NoPartition


def test_what_is_waited_for_is_said_once_before_the_end(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    none = NoPartition(logging.getLogger(__name__), "feed", "bucketer", clock.monotonic)
    assert not none.given_up()
    assert caplog.messages == [], "a group that is only just joined has not shared out its partitions"
    clock.advance(JOIN_SECONDS)
    assert not none.given_up()
    assert not none.given_up()
    clock.advance(JOIN_SECONDS)
    assert not none.given_up()
    (said,) = caplog.messages
    assert said.startswith(
        "other members of the group 'bucketer' hold every partition of 'feed': waiting for one, 60 s"
    )
    clock.advance(GIVE_UP_SECONDS)
    assert none.given_up()
    assert "ending without one" in caplog.messages[-1]
