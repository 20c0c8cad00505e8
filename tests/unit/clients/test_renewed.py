from fakes import FakeConsumer, FakeKafka

from unique_users.clients.protocols import Position
from unique_users.clients.renewing_consumer import RenewedConsumer


class Renewing:
    """A consumer of `feed` that is renewed when told; `made` are those that there were."""

    def __init__(self, kafka: FakeKafka) -> None:
        self.kafka = kafka
        self.recreated = 0
        self.made: list[FakeConsumer] = []
        self.consumer = RenewedConsumer(self.make(), self.make, lambda: self.recreated)

    def make(self) -> FakeConsumer:
        self.made.append(FakeConsumer(self.kafka, "feed", "group"))
        return self.made[-1]


def test_a_topic_that_became_another_one_is_read_by_a_new_consumer_that_takes_what_the_old_one_lost(
    kafka: FakeKafka,
) -> None:
    renewing = Renewing(kafka)
    consumer = renewing.consumer
    assert consumer.poll(0).assigned == {0}
    kafka.delete("feed")
    kafka.create("feed")
    kafka.append("feed", b"x")
    renewing.recreated += 1
    polled = consumer.poll(0)
    assert polled.revoked == {0}
    assert not polled.assigned
    assert not polled.batches
    assert renewing.made[0].closed
    assert consumer.poll(0).assigned == {0}
    consumer.seek(0, 0)
    assert consumer.poll(0).batches[0].values == [b"x"]
    assert consumer.commit({0: Position(1)})
    assert (
        consumer.committed([0])[0].offset,
        consumer.high_watermark_offsets([0]),
        consumer.watermark_offsets([0]),
    ) == (1, {0: 1}, {0: (0, 1)})
    assert len(renewing.made) == 2


def test_while_no_broker_answers_the_old_consumer_stays_and_a_poll_is_empty(kafka: FakeKafka) -> None:
    renewing = Renewing(kafka)
    renewing.consumer.poll(0)
    renewing.recreated += 1
    kafka.away = True
    assert renewing.consumer.poll(0) == ([], frozenset(), frozenset())
    assert not renewing.made[0].closed
    kafka.away = False
    assert renewing.consumer.poll(0).revoked == {0}
    renewing.consumer.close()
    assert renewing.made[-1].closed
