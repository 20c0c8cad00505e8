"""The account of every frame is not asleep: a frame that is in no topic, a number that does not add up, are found."""

from types import SimpleNamespace
from typing import Any

import pytest
from accounting import Account, sum_problems
from topics_on_broker import Record

from unique_users.config.schema import Config
from unique_users.event_time.buckets import Bucket

MINUTE = 1_704_063_600
TOPICS = Config().topics
COUNTED = {Bucket("minute", MINUTE): 2}


def frame(offset: int, value: bytes, partition: int = 0) -> Record:
    return Record(partition, offset, 0, None, value, {})


def letter(topic: str, offset: int, reason: str, value: bytes, key: bytes | None = None) -> Record:
    where = {"topic": topic.encode(), "partition": b"0", "offset": b"%d" % offset}
    return Record(0, offset, 0, key, value, {**where, "reason": reason.encode()})


def of(user: str) -> bytes:
    return b'{"uid":"%b","ts":%d}' % (user.encode(), MINUTE + 1)


FRAMES = [frame(0, of("a")), frame(1, of("b")), frame(2, of("a")), frame(3, b"none")]
LETTERS = [letter(TOPICS.feed.name, 3, "not_json", b"none")]


def system(letters: list[Record], frames: int = len(FRAMES)) -> Any:
    return SimpleNamespace(config=Config(), read=lambda _topic: letters, written=lambda _topic: frames)


def account(frames: list[Record], letters: list[Record]) -> Account:
    found = Account(system(letters))
    for record in frames:
        found.take(record)
    return found


def test_frames_that_are_counted_or_rejected_pass() -> None:
    found = account(FRAMES, LETTERS)
    assert found.weigh(COUNTED) == (0, 0)
    assert found.problems == []


def test_a_frame_that_is_in_no_topic_is_found() -> None:
    assert account([*FRAMES, frame(4, of("c"))], LETTERS).weigh(COUNTED) == (1, 0)
    assert account(FRAMES[:1], LETTERS).weigh(COUNTED) == (0, 1)
    assert account(FRAMES, LETTERS).weigh({}) == (2, 0)
    assert account(FRAMES, LETTERS).weigh({**COUNTED, Bucket("minute", 0): 1}) == (0, 1)


def test_what_is_no_frame_needs_a_dead_letter_of_its_own_place() -> None:
    assert len(account(FRAMES, []).problems) == 1
    assert len(account([*FRAMES, frame(3, b"none", partition=1)], LETTERS).problems) == 1


def test_a_user_that_a_counter_rejected_may_be_missing_and_may_be_counted_for_another_frame() -> None:
    late = letter(TOPICS.bucketed.name, 9, "late", of("b"), b"%d" % MINUTE)
    one_less = {Bucket("minute", MINUTE): 1}
    assert account(FRAMES, [*LETTERS, late]).weigh(one_less) == (0, 0)
    assert account(FRAMES, [*LETTERS, late]).weigh(COUNTED) == (0, 0)
    assert account([*FRAMES, frame(4, of("b"))], [*LETTERS, late]).weigh(one_less) == (1, 0)


@pytest.mark.parametrize(
    ("said", "problems"),
    [
        ({"read": 4, "accepted": 3, "rejected": {"not_json": 1}}, 0),
        ({"read": 5, "accepted": 4, "rejected": {"not_json": 1}}, 1),
        ({"read": 4, "accepted": 2, "rejected": {"not_json": 1}}, 1),
        ({"read": 4, "accepted": 3, "rejected": {"no_uid": 1}}, 1),
        ({"read": 4, "accepted": 4, "rejected": {}}, 1),
        (None, 1),
    ],
)
def test_a_sum_that_does_not_hold_is_found(said: dict[str, Any] | None, problems: int) -> None:
    counter: Any = SimpleNamespace(reports=lambda: [(0.0, {"frames": said})], last_words=lambda: "")
    assert len(sum_problems(system(LETTERS), counter)) == problems


def test_the_last_report_counts_and_a_row_may_name_what_was_read() -> None:
    early, last = ({"read": n, "accepted": n - 1, "rejected": {"not_json": 1}} for n in (2, 4))
    counter: Any = SimpleNamespace(reports=lambda: [(0.0, {"frames": early}), (1.0, {"frames": last})])
    assert sum_problems(system(LETTERS), counter) == []
    assert sum_problems(system(LETTERS, frames=7), counter, 4) == []
    assert len(sum_problems(system(LETTERS), counter, 3)) == 1
