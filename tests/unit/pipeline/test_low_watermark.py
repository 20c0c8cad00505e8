from collections import Counter

from brokers import config_for
from fakes import FakeAdmin, FakeKafka
from hypothesis import given, settings
from hypothesis import strategies as st

from unique_users.clients.protocols import Position
from unique_users.event_time.stream_clock import BLOCK, StreamClock
from unique_users.messages.frame_totals import FrameTotals
from unique_users.messages.offset_metadata import OffsetMetadata
from unique_users.pipeline.low_watermark import Committed, LowWatermark
from unique_users.pipeline.progress import Progress, look

HOUR = 3_600
NOW = 1_468_244_384
IDLE = 60


def at(now: int, offset: int = 1, topic_id: str = "a-feed") -> Committed:
    """All up to an offset is read, and the partition's watermark is an hour behind `now`."""
    clock = StreamClock(HOUR)
    clock.admit([now] * BLOCK)
    return Committed(offset, OffsetMetadata(topic_id, clock.to_metadata()))


def test_it_is_the_minimum_over_all_partitions() -> None:
    low = LowWatermark(IDLE)
    assert low.update({0: at(NOW + 5), 1: at(NOW)}, {0: 9, 1: 9}, 0) == NOW - HOUR


def test_it_never_goes_back() -> None:
    low = LowWatermark(IDLE)
    low.update({0: at(NOW + 5)}, {0: 9}, 0)
    assert low.update({0: at(NOW)}, {0: 9}, 1) == NOW + 5 - HOUR


def test_a_partition_that_nobody_reads_or_that_does_not_judge_yet_holds_it() -> None:
    low = LowWatermark(IDLE)
    assert low.update({0: at(NOW)}, {0: 9, 1: 9}, 0) is None
    assert low.update({0: at(NOW), 1: Committed(5, OffsetMetadata("a-feed", ""))}, {0: 9, 1: 9}, 1_000) is None


def test_a_partition_is_idle_once_it_was_read_to_its_end_and_silent_for_a_while() -> None:
    """partition 1   read, silent for 60 s: left out   |   wakes: holds again, but the low watermark does not go back"""
    low = LowWatermark(IDLE)
    behind = {0: at(NOW, 9), 1: at(0, 3)}
    assert low.update(behind, {0: 10, 1: 3}, 0) == 0
    assert low.update(behind, {0: 11, 1: 3}, IDLE - 1) == 0
    assert low.update(behind, {0: 12, 1: 3}, IDLE) == NOW - HOUR
    ahead = {0: at(NOW + HOUR, 9), 1: at(0, 3)}
    assert low.update(ahead, {0: 13, 1: 4}, IDLE + 1) == NOW - HOUR
    assert low.update({**ahead, 1: at(0, 4)}, {0: 13, 1: 4}, IDLE + 2) == NOW - HOUR
    assert low.update({**ahead, 1: at(0, 4)}, {0: 13, 1: 4}, 2 * IDLE + 2) == NOW


def test_a_partition_that_was_always_empty_is_idle_without_a_commit() -> None:
    low = LowWatermark(IDLE)
    assert low.update({0: at(NOW)}, {0: 9, 1: 0}, 0) is None
    assert low.update({0: at(NOW)}, {0: 9, 1: 0}, IDLE) == NOW - HOUR


def test_when_all_are_idle_it_stays() -> None:
    low = LowWatermark(IDLE)
    low.update({0: at(NOW, 9), 1: at(NOW + 9, 9)}, {0: 9, 1: 9}, 0)
    assert low.update({0: at(NOW, 9), 1: at(NOW + 9, 9)}, {0: 9, 1: 9}, IDLE) == NOW - HOUR


def test_another_topic_begins_anew() -> None:
    low = LowWatermark(IDLE)
    low.begin_anew_if_recreated("a-feed")
    assert low.update({0: at(NOW)}, {0: 9}, 0) == NOW - HOUR
    low.begin_anew_if_recreated("a-feed")
    assert low.update({}, {0: 9}, 0) == NOW - HOUR
    low.begin_anew_if_recreated("another")
    assert low.update({}, {0: 9}, 0) is None
    assert low.update({0: at(HOUR + 60, topic_id="another")}, {0: 9}, 1) == 60


def test_a_look_after_feed_was_recreated_takes_nothing_from_the_commits_of_the_former_one() -> None:
    kafka = FakeKafka()
    kafka.create("feed")
    kafka.create("bucketed")
    admin, config, low = FakeAdmin(kafka), config_for("fake:1"), LowWatermark(IDLE)
    metadata = at(NOW, topic_id=kafka.topics["feed"].id).metadata
    kafka.group("bucketer", "feed").committed[0] = Position(1, metadata.text())
    kafka.append("feed", b"{}")
    assert look(admin, config, low, 0).low_watermark == NOW - HOUR
    commits = dict(kafka.group("bucketer", "feed").committed)
    kafka.delete("feed")
    kafka.create("feed")
    for left in (commits, {}):  # a broker deletes them some time after their topic
        kafka.group("bucketer", "feed").committed.update(left)
        found = look(admin, config, low, 1)
        assert (found.low_watermark, found.committed) == (None, {})
        kafka.group("bucketer", "feed").committed.clear()


looks = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(HOUR, 9 * HOUR), st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=3),
        st.integers(0, 2 * IDLE),
    ),
    max_size=12,
)


@settings(max_examples=100)
@given(looks)
def test_it_never_passes_a_partition_that_may_bring_more_and_never_goes_back(
    sequence: list[tuple[list[tuple[int, int, int]], int]],
) -> None:
    low, before, now = LowWatermark(IDLE), None, 0
    for partitions, seconds in sequence:
        now += seconds
        committed = {number: at(time, offset) for number, (time, offset, _) in enumerate(partitions)}
        ends = {number: offset + unread for number, (_, offset, unread) in enumerate(partitions)}
        value = low.update(committed, ends, now)
        assert before is None or (value is not None and value >= before)
        behind = [committed[p].metadata.watermark() or 0 for p in ends if ends[p] > committed[p].offset]
        assert value is None or value == before or all(value <= watermark for watermark in behind)
        before = value


def test_the_sum_of_all_frames_is_not_told_where_late_ones_are_from_before_it_was_begun() -> None:
    """300 late users of a group of bucketers that was deleted since; the next one has read 10 frames."""
    metadata = OffsetMetadata("a-feed", "", totals=FrameTotals(10, 10))
    assert Progress(None, {}, {0: Committed(10, metadata)}, 0, 0.0, late=300).totals() is None
    assert Progress(None, {}, {0: Committed(10, metadata)}, 0, 0.0, late=3).totals() == FrameTotals(
        10, 7, Counter({"late": 3})
    )


def test_a_look_at_the_line_asks_in_the_order_that_its_promise_rests_on() -> None:
    """What is committed of `feed` is before the ends of `bucketed` that are asked afterwards."""
    kafka = FakeKafka()
    for topic in ("feed", "bucketed"):
        kafka.create(topic)
    asked: list[str] = []

    class Asked(FakeAdmin):
        def high_watermark_offsets(self, topic: str) -> dict[int, int]:
            asked.append(f"ends of {topic}")
            return super().high_watermark_offsets(topic)

        def committed(self, group: str, topic: str) -> dict[int, Position]:
            asked.append(f"commits of {topic}")
            return super().committed(group, topic)

    look(Asked(kafka), config_for("fake:1"), LowWatermark(IDLE), 0)
    assert asked[:3] == ["ends of feed", "commits of feed", "ends of bucketed"]
