"""What a member does that the group has given up, in the order that the matrix met by chance (row 4, seed 426708)."""

from brokers import config_for
from fakes import FakeClock, FakeConsumer, FakeKafka, FakeProducer, FakeRecordLookup, FakeStop, FakeTopics

from unique_users.bucketer.assigned_partitions import FeedPartitions
from unique_users.bucketer.loop import Bucketing
from unique_users.bucketer.rekey import Rekeyer
from unique_users.bucketer.reporter import Reporter
from unique_users.bucketer.writer import Writer, layout_of_bucketed
from unique_users.clients.protocols import Position
from unique_users.messages.frame_parser import FrameParser
from unique_users.partition_log.cut_back import HistoryCheck


def bucketing_on(kafka: FakeKafka, clock: FakeClock) -> tuple[Bucketing, FakeConsumer]:
    consumer = FakeConsumer(kafka, "feed", "bucketer")
    config, topics = config_for("fake:1"), FakeTopics(kafka)
    history = HistoryCheck("feed", consumer, lambda: FakeRecordLookup(kafka, "feed"), kafka.answers)
    partitions = FeedPartitions(config, consumer, topics, history)
    bucketing = Bucketing(
        config,
        partitions,
        Writer(config, topics, layout_of_bucketed(config, topics), lambda: FakeProducer(kafka)),
        Rekeyer(FrameParser(), 3_600),
        Reporter(config, partitions, [], clock.monotonic, clock.wall),
        FakeStop(clock),
    )
    bucketing.open()
    return bucketing, consumer


def test_a_bucketer_that_was_given_up_does_not_move_the_commit_back_when_it_ends(
    kafka: FakeKafka, clock: FakeClock
) -> None:
    """Slow A reads 1 frame │ evicted │ B reads and commits all 3 │ A ends: the commit stays at 3."""
    frames = [b'{"uid":"u%d","ts":1468244384}' % number for number in range(3)]
    kafka.append("feed", frames[0])
    slow, consumer = bucketing_on(kafka, clock)
    for _ in range(2):
        slow.step()
    kafka.evict(consumer)
    kafka.append("feed", *frames[1:])
    second, _ = bucketing_on(kafka, clock)
    for _ in range(5):
        second.step()
    assert second.commit()
    group = kafka.group("bucketer", "feed")
    assert group.committed[0].offset == 3

    slow.close()

    committed: Position = group.committed[0]
    assert committed.offset == 3
