"""A bucketer on the fake broker, for every test that needs one."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from brokers import config_for
from fakes import FakeAdmin, FakeConsumer, FakeKafka, FakeProducer, FakeRecordLookup, FakeStop, FakeTopics

from unique_users.bucketer.assigned_partitions import FeedPartitions
from unique_users.bucketer.loop import Bucketing
from unique_users.bucketer.rekey import Rekeyer
from unique_users.bucketer.reporter import Reporter
from unique_users.bucketer.writer import Writer, layout_of_bucketed
from unique_users.clients.sending import BATCH_OVERHEAD_BYTES, COMPRESSION, DeadLetters, Sending
from unique_users.clients.topics import batch_bytes_max
from unique_users.messages.bucketed import COMBINED_BYTES_MAX
from unique_users.messages.frame_parser import FrameParser
from unique_users.partition_log.cut_back import HistoryCheck
from unique_users.reports.stdout import Stdout


class Feed:
    """A bucketer on a fake broker, which can be killed and started again."""

    def __init__(self, kafka: FakeKafka, stop: FakeStop | None = None, **rules: Any) -> None:
        self.kafka = kafka
        self.clock = kafka.clock
        self.stop = stop or FakeStop(kafka.clock)
        self.config = config_for("fake:1", bucketer=rules)
        self.producers: list[FakeProducer] = []
        self.letters_producers: list[FakeProducer] = []
        self.topics = FakeTopics(kafka, "feed", "bucketed", "rejected")
        self.start()

    def start(self, until: Mapping[int, int] | None = None) -> None:
        self.consumer = FakeConsumer(self.kafka, "feed", "bucketer")
        self.rekeyer = Rekeyer(
            FrameParser(),
            self.config.bucketer.future_seconds_max,
            combine=self.config.bucketer.combine,
            partitions=self._user_partitions(),
        )
        history = HistoryCheck("feed", self.consumer, lambda: FakeRecordLookup(self.kafka, "feed"), self.kafka.answers)
        partitions = FeedPartitions(self.config, self.consumer, self.topics, history, until)
        self.bucketing = Bucketing(
            self.config,
            partitions,
            Writer(self.config, self.topics, layout_of_bucketed(self.config, self.topics), self._new_producer),
            self.rekeyer,
            Reporter(self.config, partitions, [Stdout("text")], self.clock.monotonic, self.clock.wall),
            self.stop,
        )
        self.bucketing.open()

    def _user_partitions(self) -> int | None:
        layout = layout_of_bucketed(self.config, self.topics)
        return layout.partitions if self.config.bucketer.partition_by == "uid" else None

    def _new_producer(self) -> Sending:
        """As bucketer.py does."""
        bytes_max = self._bytes_max("bucketed") - BATCH_OVERHEAD_BYTES
        self.rekeyer.combined_bytes_max = min(COMBINED_BYTES_MAX, bytes_max)
        self.producers.append(FakeProducer(self.kafka))
        letters = DeadLetters("rejected", lambda: self._bytes_max("rejected"), self._new_letters_producer)
        return Sending(self.producers[-1], letters)

    def _new_letters_producer(self, _bytes_max: int) -> FakeProducer:
        self.letters_producers.append(FakeProducer(self.kafka, COMPRESSION))
        return self.letters_producers[-1]

    def _bytes_max(self, topic: str) -> int:
        return batch_bytes_max(FakeAdmin(self.kafka), topic)

    def put(self, uid: str, ts: float | None = None, partition: int = 0) -> None:
        """Append a frame to `feed`."""
        value = json.dumps({"uid": uid, "ts": int(self.clock.wall()) if ts is None else ts}).encode()
        self.kafka.append("feed", value, partition=partition)

    def crash(self) -> None:
        """Kill -9: nothing in flight arrives, the group takes the member for dead."""
        if self.consumer in self.kafka.group("bucketer", "feed").members:
            self.kafka.evict(self.consumer)

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.bucketing.step()

    def finish(self) -> None:
        """Run to the end of `feed` as it is now, and close."""
        ends = {p: log.end for p, log in enumerate(self.kafka.topics["feed"].partitions)}
        self.crash()
        self.start(until=ends)
        for _ in range(200):
            if not self.bucketing.step():
                break
        else:
            pytest.fail("never caught up")
        self.bucketing.close()

    def bucketed(self) -> list[str]:
        return [json.loads(value or b"")["uid"] for value in self.kafka.values("bucketed")]

    def rejected(self) -> list[dict[str, str]]:
        return [{name: value.decode() for name, value in r.named.items()} for r in self.kafka.records("rejected")]

    def committed(self, partition: int = 0) -> int:
        position = self.kafka.group("bucketer", "feed").committed.get(partition)
        return position.offset if position else 0

    def assert_what_is_committed_has_arrived(self) -> None:
        arrived = {*self.bucketed()}
        for partition, log in enumerate(self.kafka.topics["feed"].partitions):
            for record in log.records:
                if record.offset < self.committed(partition):
                    assert json.loads(record.value or b"")["uid"] in arrived, f"offset {record.offset} is lost"
