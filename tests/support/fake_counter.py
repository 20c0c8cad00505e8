"""A counter on the fake broker with a state on disk, for every test that needs one."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from brokers import config_for
from fakes import FakeAdmin, FakeConsumer, FakeKafka, FakeProducer, FakeRecordLookup, FakeStop, FakeTopics

from unique_users.aggregation.counts import Count, users_in
from unique_users.clients.protocols import Position
from unique_users.config.schema import Config
from unique_users.counter.assigned_partitions import CountedPartitions
from unique_users.counter.counts_topic import Publisher
from unique_users.counter.loop import Counting
from unique_users.counter.publishing import Publishing
from unique_users.counter.recovery import Recovery
from unique_users.counter.reporter import Reporter
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.event_time.stream_clock import BLOCK, StreamClock
from unique_users.messages.merged_counts import PublishedBucket, ReadCounts, every_bucket, merged_buckets, merged_counts
from unique_users.messages.offset_metadata import OffsetMetadata
from unique_users.partition_log.cut_back import HistoryCheck
from unique_users.pipeline.low_watermark import LowWatermark
from unique_users.pipeline.progress import Progress, look
from unique_users.reports.bucket_count import Format
from unique_users.reports.stdout import Stdout
from unique_users.state.store import Stores

MINUTE = 1_468_244_340


class FakeProgress:
    """See line.ProgressSource: looks whenever it is asked, as far as there is a feed."""

    def __init__(self, kafka: FakeKafka, config: Config) -> None:
        self._kafka = kafka
        self._config = config
        self._low_watermark = LowWatermark(config.counter.idle_seconds)

    def current(self) -> Progress | None:
        if self._kafka.away or not {"feed", "bucketed"} <= self._kafka.topics.keys():
            return None
        return look(FakeAdmin(self._kafka), self._config, self._low_watermark, self._kafka.clock.monotonic())

    def look(self) -> None:
        pass


class Counter:
    """A counter on a fake broker with a state on disk, which can be killed and started again."""

    def __init__(
        self,
        kafka: FakeKafka,
        directory: Path,
        stop: FakeStop | None = None,
        partition_by: str = "bucket",
        **rules: Any,
    ) -> None:
        self.kafka = kafka
        self.clock = kafka.clock
        self.stop = stop or FakeStop(kafka.clock)
        allowed = min(86_400, rules.get("retention_seconds", 86_400))
        self.config = config_for(
            "fake:1",
            bucketer={"allowed_lateness_seconds": allowed, "partition_by": partition_by},
            counter=rules,
            state={"directory": str(directory)},
        )
        self.put_users: defaultdict[int, set[str]] = defaultdict(set)
        self.drop: list[str] = []
        self.topics = FakeTopics(kafka, "bucketed", "counts")
        self.start()

    def start(self, until: Mapping[int, int] | None = None, form: Format = "text") -> None:
        self.consumer = FakeConsumer(self.kafka, "bucketed", "counter")
        history = HistoryCheck(
            "bucketed", self.consumer, lambda: FakeRecordLookup(self.kafka, "bucketed"), self.kafka.answers
        )
        stores = Stores(Path(self.config.state.directory), self.clock.wall)
        recovery = Recovery(self.config, self.consumer, self.topics, stores, history, self.drop)
        partitions = CountedPartitions(self.config, self.consumer, self.topics, recovery, self.stop, until)
        calendar = Calendar(self.config.counter.timezone)
        line = FakeProgress(self.kafka, self.config)
        self.counting = Counting(
            self.config,
            partitions,
            Publishing(
                self.config,
                self.topics,
                lambda: Publisher(FakeProducer(self.kafka), "counts", calendar, "rejected"),
                self.read_counts,
                self.clock.monotonic,
            ),
            Reporter(
                self.config,
                partitions,
                line,
                [Stdout(form, calendar)],
                self.clock.monotonic,
                self.clock.wall,
            ),
            line,
            self.stop,
        )

    def put(self, uid: str, bucket: int = MINUTE, partition: int = 0) -> None:
        """Append a record to `bucketed`."""
        self.kafka.append(
            "bucketed", b'{"uid":"%b","ts":%d}' % (uid.encode(), bucket), key=b"%d" % bucket, partition=partition
        )
        self.put_users[bucket].add(uid)

    def bucketers_are_at(self, now: int, partition: int = 0) -> None:
        """A bucketer has read a partition of `feed` to its end, whose stream clock is at `now`."""
        self.kafka.append("feed", b"a frame", partition=partition)
        clock = StreamClock(self.config.bucketer.allowed_lateness_seconds)
        clock.admit([now] * BLOCK)
        end = self.kafka.topics["feed"].partitions[partition].end
        metadata = OffsetMetadata(self.kafka.topics["feed"].id, clock.to_metadata())
        self.kafka.group("bucketer", "feed").committed[partition] = Position(end, metadata.text())

    def evict(self) -> None:
        if self.consumer in self.kafka.group("counter", "bucketed").members:
            self.kafka.evict(self.consumer)

    def crash(self) -> None:
        """Kill -9: what is not saved is gone, locks end, the group takes the member for dead."""
        for ledger in self.counting.partitions.open.values():
            ledger.close()
        self.evict()

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.counting.step()

    def finish(self, form: Format = "json") -> None:
        """Count to the end of `bucketed` as it is now, report everything, and close."""
        self.crash()
        ends = {p: log.end for p, log in enumerate(self.kafka.topics["bucketed"].partitions)}
        self.start(ends, form)
        for _ in range(200):
            if not self.counting.step():
                break
        else:
            pytest.fail("never caught up")
        self.counting.close()

    def held(self) -> dict[int, int]:
        """The counts of the minutes in memory."""
        return {
            bucket.start: users_in(count) for bucket, count in self.all_held().items() if bucket.interval == "minute"
        }

    def all_held(self) -> dict[Bucket, Count]:
        held = self.counting.partitions
        return {bucket: held.count(bucket) for bucket in held.buckets()}

    def published(self) -> dict[int, int]:
        return merged_counts(self.kafka.values("counts"), self.kafka.keys("counts"))

    def all_published(self) -> dict[Bucket, Count]:
        return {bucket: found.total for bucket, found in self.read_published().items()}

    def read_counts(self, wanted: Callable[[Bucket], bool] = every_bucket) -> ReadCounts:
        self.kafka.require()
        read = ReadCounts(wanted=wanted)
        for key, value in zip(self.kafka.keys("counts"), self.kafka.values("counts"), strict=True):
            read.add(key, value)
        return read

    def read_published(self) -> dict[Bucket, PublishedBucket]:
        return merged_buckets(self.kafka.values("counts"), self.kafka.keys("counts"))

    def expected(self) -> dict[int, int]:
        return {bucket: len(users) for bucket, users in self.put_users.items()}


def settle(counter: Counter) -> None:
    for _ in range(3):
        counter.step()
        counter.clock.advance(1)
