"""Planted faults: plausible mistakes in the low watermark, the states and the commits, each as a patch.

test_planted.py holds that the state machine of whole_line.py finds every one of them.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from unique_users.aggregation.completeness import Gap
from unique_users.bucketer.assigned_partitions import FeedPartitions
from unique_users.bucketer.loop import Bucketing
from unique_users.clients.protocols import Admin, Batch
from unique_users.clients.sending import Sending
from unique_users.counter import backfill
from unique_users.counter import counts_topic as publish
from unique_users.counter.assigned_partitions import CountedPartitions
from unique_users.counter.counts_topic import Due, Publisher
from unique_users.counter.partition import CountedPartition
from unique_users.counter.recovery import Recovery
from unique_users.errors import DeliveryError
from unique_users.event_time.rollup import Rollup
from unique_users.event_time.stream_clock import StreamClock
from unique_users.messages import generations
from unique_users.messages import merged_counts as published
from unique_users.messages.counts import encode_count
from unique_users.messages.frame_totals import FrameTotals
from unique_users.messages.merged_counts import ReadCounts
from unique_users.partition_log.cut_back import HistoryCheck
from unique_users.partition_log.read_history import Past
from unique_users.pipeline import low_watermark
from unique_users.pipeline import progress as line
from unique_users.pipeline.low_watermark import LowWatermark
from unique_users.pipeline.progress import Progress
from unique_users.state.store import Store

settle = CountedPartition.settle

Fault = Callable[[], AbstractContextManager[Any]]
FAULTS: dict[str, Fault] = {}
RARE: dict[str, Fault] = {}
OF_BUSY: set[str] = {  # those that show where no partition was ever idle, so that none may be late
    "the low watermark is the maximum",
    "a partition is idle as soon as all of it is read",
    "a bucket is dropped before its partition is read up to the end",
    "partitions without a commit are ignored",
    "the ends of bucketed are asked before the commits",
}
OF_LOSSES: set[str] = set()  # those of them that show where logs or states are lost


def fault(plant: Fault) -> Fault:
    """Add to FAULTS what a function plants, under its name as a sentence."""
    FAULTS[plant.__name__.replace("_", " ")] = plant
    return plant


def rare(plant: Fault) -> Fault:
    """Add to RARE what takes more examples than a gate has time for: single cases find it, see test_planted.py."""
    RARE[plant.__name__.replace("_", " ")] = plant
    return plant


def fault_of_losses(plant: Fault) -> Fault:
    OF_LOSSES.add(plant.__name__.replace("_", " "))
    return fault(plant)


@fault
def the_low_watermark_is_the_maximum() -> AbstractContextManager[Any]:
    return patch.object(low_watermark, "min", max, create=True)


@fault
def the_low_watermark_goes_back() -> AbstractContextManager[Any]:
    update = LowWatermark.update

    def forgetting(self: LowWatermark, *args: Any) -> int | None:
        self.value = None
        return update(self, *args)

    return patch.object(LowWatermark, "update", forgetting)


@fault
def idle_partitions_are_not_left_out() -> AbstractContextManager[Any]:
    return patch.object(LowWatermark, "_is_idle", lambda *_: False)


@fault
def a_partition_is_idle_as_soon_as_all_of_it_is_read() -> AbstractContextManager[Any]:
    return patch.object(LowWatermark, "_is_idle", lambda _self, _p, got, end, _now: (got.offset if got else 0) >= end)


@fault
def partitions_without_a_commit_are_ignored() -> AbstractContextManager[Any]:
    update = LowWatermark.update

    def ignoring(self: LowWatermark, committed: Mapping[int, Any], ends: Mapping[int, int], now: float) -> int | None:
        return update(self, committed, {p: end for p, end in ends.items() if p in committed}, now)

    return patch.object(LowWatermark, "update", ignoring)


@rare
def the_ends_of_bucketed_are_asked_before_the_commits() -> AbstractContextManager[Any]:
    """So before what is committed of `feed`."""

    class Early:
        def __init__(self, admin: Admin) -> None:
            self._admin = admin
            self._ends = admin.high_watermark_offsets("bucketed")

        def high_watermark_offsets(self, topic: str) -> dict[int, int]:
            return self._ends if topic == "bucketed" else self._admin.high_watermark_offsets(topic)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._admin, name)

    look = line.look
    return patch.object(line, "look", lambda admin, *more: look(Early(admin), *more))


@fault
def a_bucket_is_dropped_before_its_partition_is_read_up_to_the_end() -> AbstractContextManager[Any]:
    def at_once(self: CountedPartition, low: int | None, _end: int, _clock: int | None = None) -> None:
        self._low_watermark = low

    return patch.object(CountedPartition, "follow", at_once)


@fault
def the_floor_is_forgotten_at_a_restart() -> AbstractContextManager[Any]:
    begin = Store._open

    def without_floor(self: Store) -> None:
        begin(self)
        self.floor = 0

    return patch.object(Store, "_open", without_floor)


@fault
def records_for_a_bucket_that_is_gone_are_ignored_silently() -> AbstractContextManager[Any]:
    return patch.object(CountedPartition, "_reject", lambda *_: None)


@fault
def a_save_goes_past_undelivered_dead_letters() -> AbstractContextManager[Any]:
    save = CountedPartition.save

    def past_letters(self: CountedPartition) -> None:
        undelivered, self.undelivered = self.undelivered, []
        try:
            save(self)
        finally:
            self.undelivered = undelivered

    return patch.object(CountedPartition, "save", past_letters)


@fault
def dead_letters_of_the_counter_count_as_delivered_when_they_were_refused() -> AbstractContextManager[Any]:
    reject = Publisher.reject

    def hopeful(self: Publisher, *args: Any) -> bool:
        with suppress(DeliveryError):
            reject(self, *args)
        return True

    return patch.object(Publisher, "reject", hopeful)


@fault
def counts_count_as_published_although_nobody_acknowledged_them() -> AbstractContextManager[Any]:
    send = Publisher.publish

    def hopeful(self: Publisher, *args: Any) -> bool:
        with suppress(DeliveryError):
            send(self, *args)
        return True

    return patch.object(Publisher, "publish", hopeful)


@fault
def the_bucketer_does_not_wait_for_its_dead_letters() -> AbstractContextManager[Any]:
    def records_alone(self: Sending, timeout_seconds: float) -> bool:
        done = self._producer.flush(timeout_seconds)
        self._letters.backpressure_eased(timeout_seconds)
        return done

    return patch.object(Sending, "flush", records_alone)


@fault
def offsets_are_committed_before_the_flush() -> AbstractContextManager[Any]:
    commit, flush = Bucketing.commit, Sending.flush

    def early(self: Bucketing) -> bool:
        with patch.object(Sending, "flush", lambda *_: True):
            done = commit(self)
        producer = self._writer._producer
        assert isinstance(producer, Sending)
        flush(producer, 1.0)
        return done

    return patch.object(Bucketing, "commit", early)


@fault
def the_clock_is_restored_without_its_watermark() -> AbstractContextManager[Any]:
    restore = StreamClock.from_metadata

    def without(allowed: int, text: str) -> StreamClock:
        clock = restore(allowed, text)
        if allowed:  # with 0 it is only read
            clock._watermark = None
        return clock

    return patch.object(StreamClock, "from_metadata", without)


@fault
def the_totals_are_not_restored() -> AbstractContextManager[Any]:
    begin = FeedPartitions._open

    def from_zero(self: FeedPartitions, partition: int, *args: Any) -> None:
        begin(self, partition, *args)
        self.open[partition].totals = FrameTotals()

    return patch.object(FeedPartitions, "_open", from_zero)


@fault
def the_number_of_late_users_is_not_saved() -> AbstractContextManager[Any]:
    return _with_facts(late=0)


@fault_of_losses
def the_marks_of_a_state_are_forgotten_at_a_restart() -> AbstractContextManager[Any]:
    return _with_facts(gaps=())


def _with_facts(**changed: Any) -> AbstractContextManager[Any]:
    facts = Recovery._facts
    return patch.object(Recovery, "_facts", lambda self, *args: replace(facts(self, *args), **changed))


@rare
def the_gaps_of_feed_are_forgotten_at_a_restart() -> AbstractContextManager[Any]:
    begin = FeedPartitions._open

    def without(self: FeedPartitions, partition: int, *args: Any) -> None:
        begin(self, partition, *args)
        self.open[partition].gaps = ()

    return patch.object(FeedPartitions, "_open", without)


@rare
def the_gaps_of_feed_do_not_reach_the_counter() -> AbstractContextManager[Any]:
    def without_gaps(self: CountedPartitions, seen: Progress | None) -> None:
        if seen and seen.low_watermark is not None:
            for partition, state in self.open.items():
                state.follow(seen.low_watermark, seen.bucketed_ends[partition])

    return patch.object(CountedPartitions, "follow_progress", without_gaps)


@fault_of_losses
def marks_are_not_published() -> AbstractContextManager[Any]:
    def whole(*args: Any, **named: Any) -> tuple[bytes, bytes]:
        return encode_count(*args, **{**named, "why": ()})

    return patch.object(publish, "encode_count", whole)


@fault_of_losses
def a_gap_ends_one_minute_too_early() -> AbstractContextManager[Any]:
    mark = CountedPartition.mark

    def shorter(self: CountedPartition, gaps: Iterable[Gap]) -> None:
        mark(self, [gap._replace(end=max(gap.start, gap.end - 60)) for gap in gaps])

    return patch.object(CountedPartition, "mark", shorter)


@fault_of_losses
def readers_ignore_the_generation() -> AbstractContextManager[Any]:
    """With brokers whose topics have no ids, the larger count of a former one stays."""
    return patch.object(generations, "current", set)


@fault_of_losses
def a_state_that_begins_anew_leaves_counts_that_are_too_high() -> AbstractContextManager[Any]:
    return patch.object(CountedPartition, "settle", lambda self, _: settle(self, {}))


@fault_of_losses
def buckets_closed_before_a_cut_are_not_marked() -> AbstractContextManager[Any]:
    return patch.object(published, "_told_since", lambda *_: ())


@fault_of_losses
def frames_deleted_unread_are_marked_when_the_next_one_comes_alone() -> AbstractContextManager[Any]:
    return patch.object(line, "_missing_from", lambda *_: None)


@fault_of_losses
def an_interval_that_is_added_lacks_nothing_before_its_bucket_at_the_floor() -> AbstractContextManager[Any]:
    late = backfill._filled_late

    def short(store: Store, rollup: Rollup, kept: set[str], name: str) -> list[Gap]:
        return [gap._replace(start=gap.end - 300) for gap in late(store, rollup, kept, name)]

    return patch.object(backfill, "_filled_late", short)


@rare
def a_bucket_without_a_count_of_a_partition_ignores_its_gaps() -> AbstractContextManager[Any]:
    return patch.object(published, "why_missing", lambda *_: ())


@rare
def a_crash_loses_tombstones() -> AbstractContextManager[Any]:
    """They are taken for published as soon as they are due."""
    due = CountedPartition.what_to_publish

    def forgetting(self: CountedPartition, *args: Any) -> Due:
        what = due(self, *args)
        self.mark_published(what._replace(gaps=None))
        return what

    return patch.object(CountedPartition, "what_to_publish", forgetting)


@fault
def readers_ignore_tombstones() -> AbstractContextManager[Any]:
    add = ReadCounts.add
    return patch.object(ReadCounts, "add", lambda self, key, value: None if value is None else add(self, key, value))


@fault
def what_was_saved_but_not_published_is_forgotten_at_a_restart() -> AbstractContextManager[Any]:
    begin = CountedPartition.__init__

    def forgetting(self: CountedPartition, *args: Any) -> None:
        begin(self, *args)
        self.unpublished = set()

    return patch.object(CountedPartition, "__init__", forgetting)


@fault_of_losses
def a_log_that_was_cut_back_is_read_on_as_if_it_was_the_same() -> AbstractContextManager[Any]:
    def trusting(self: HistoryCheck, _past: Past, _position: int, _batch: Batch) -> bool:
        self._doubts.clear()
        return True

    return patch.object(HistoryCheck, "continues", trusting)
