"""The public reader of the counts on a fake broker that goes away, or whose topic does."""

from collections.abc import Callable

import pytest
from fakes import FakeAdmin, FakeConsumer, FakeKafka

from unique_users import api
from unique_users.api import BrokerAwayError, TopicError, UniqueUsersError, follow_counts, read_counts
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.messages.counts import encode_count
from unique_users.queries import same_topic


class Reader(FakeConsumer):
    """Has something happen once it is connected."""

    then: Callable[[], None]

    def seek(self, partition: int, offset: int) -> None:
        super().seek(partition, offset)
        self.then()


@pytest.fixture
def after_connecting(kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    def set_up(then: Callable[[], None]) -> None:
        kafka.create("counts")
        for users in (1, 2):
            key, value = encode_count(Bucket("minute", 1_704_067_200), 0, users, Calendar(), generation="a-b")
            kafka.append("counts", value, key=key)
        monkeypatch.setattr(Reader, "then", staticmethod(then), raising=False)
        monkeypatch.setattr(same_topic, "LOOK_SECONDS", 1e-9)
        monkeypatch.setattr(api, "get_admin", lambda _: FakeAdmin(kafka))
        monkeypatch.setattr(api, "get_reader", lambda *_: Reader(kafka, "counts", None, alone=True))

    return set_up


@pytest.mark.timeout(60)
@pytest.mark.parametrize("ask", [lambda: read_counts(""), lambda: next(iter(follow_counts("")))])
@pytest.mark.parametrize("what", ["the broker goes away", "the topic is deleted", "the topic is recreated"])
def test_what_goes_away_while_all_counts_are_read_is_an_error_and_not_a_wait(
    kafka: FakeKafka,
    after_connecting: Callable[[Callable[[], None]], None],
    ask: Callable[[], object],
    what: str,
) -> None:
    def happens() -> None:
        if what == "the broker goes away":
            kafka.away = True
        else:
            kafka.delete("counts")
        if what == "the topic is recreated":
            kafka.create("counts")

    after_connecting(happens)
    with pytest.raises(UniqueUsersError) as raised:
        ask()
    assert isinstance(raised.value, TopicError if what == "the topic is recreated" else BrokerAwayError)
