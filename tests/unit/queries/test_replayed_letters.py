"""Dead letters go to feed again once: each with what it came with, in any number of runs, however these end."""

import pytest
from fakes import FakeConsumer, FakeKafka, FakeProducer
from hypothesis import given
from hypothesis import strategies as st

from unique_users.clients.protocols import Position
from unique_users.errors import BrokerAwayError, DeliveryError
from unique_users.messages.dead_letters import NO_TIME, DeadLetter
from unique_users.queries.replayed_letters import Feed, LetterReplay, Memory, Outcome, may_be_record_time

NOW_MS = 1_468_244_400_000
DAY_MS = 86_400_000
FEED = Feed("feed", 3, 7 * DAY_MS, time_of_record=False)
OWN = (("trace", b"7"),)
LETTER = DeadLetter("no_uid", "no 'uid' at the root", "feed", 1, 0, b"{}", b"k", NOW_MS - 1_000, OWN)


@pytest.fixture
def kafka() -> FakeKafka:
    kafka = FakeKafka()
    kafka.create("feed", partitions=3)
    kafka.create("rejected")
    return kafka


def put(kafka: FakeKafka, *letters: DeadLetter) -> None:
    for letter in letters:
        kafka.append("rejected", letter.value, key=letter.key, headers=letter.headers())


def replay(
    kafka: FakeKafka, reason: str | None = None, *, feed: Feed = FEED, again: bool = False, stop_after: int = 10**9
) -> Outcome:
    """A run that is asked to stop after so many polls."""
    polls = iter(range(stop_after))
    reader = FakeConsumer(kafka, "rejected", "bucketer-replay", alone=True)
    producer = FakeProducer(kafka)
    stopped = lambda: next(polls, None) is None  # noqa: E731
    partitions = range(len(kafka.topics["rejected"].partitions))
    return LetterReplay(reader, producer, feed, NOW_MS, stopped).run(partitions, reason, again=again)


def test_a_letter_goes_where_it_came_from_with_all_that_it_came_with_and_a_header_more(kafka: FakeKafka) -> None:
    put(kafka, LETTER, LETTER._replace(partition=7, key=None, timestamp_ms=-1))
    assert replay(kafka).sent == 2
    (record,) = kafka.records("feed", 1)
    assert (record.value, record.key, record.timestamp_ms) == (b"{}", b"k", NOW_MS - 1_000)
    assert record.headers == [*OWN, ("replayed", b"1")]
    (other,) = [r for p in (0, 2) for r in kafka.records("feed", p)]
    assert other.timestamp_ms == int(kafka.clock.wall() * 1000), (
        "feed has no such partition any more, and no time was known"
    )


def test_a_second_replay_sends_nothing_and_says_how_many_until_it_is_told_to(kafka: FakeKafka) -> None:
    put(kafka, *[LETTER] * 5)
    assert replay(kafka).lines("text") == ["5 dead letters sent to feed again"]
    assert replay(kafka).lines("text") == [
        "0 dead letters sent to feed again",
        "5 were replayed before (--again sends them once more)",
    ]
    put(kafka, LETTER)
    third = replay(kafka)
    assert (third.sent, third.left_out) == (1, {"replayed before": 5})
    assert replay(kafka, again=True).sent == 6


def test_what_was_rejected_again_is_left_out_also_when_told_to_send_all(kafka: FakeKafka) -> None:
    put(kafka, LETTER)
    replay(kafka)
    put(kafka, LETTER._replace(record_headers=(*OWN, ("replayed", b"1"))))
    assert replay(kafka, again=True).left_out == {"rejected again": 1}
    assert len(kafka.records("feed", 1)) == 2


def test_one_reason_at_a_time_and_then_the_rest(kafka: FakeKafka) -> None:
    """no_uid bad_ts no_uid | --reason bad_ts | bad_ts no_uid | --reason bad_ts | all"""
    bad_ts = LETTER._replace(reason="bad_ts", value=b"2")
    put(kafka, LETTER, bad_ts, LETTER)
    assert replay(kafka, "bad_ts").sent == 1
    put(kafka, bad_ts, LETTER)
    assert (replay(kafka, "bad_ts").sent, replay(kafka, "bad_ts").sent) == (1, 0)
    rest = replay(kafka)
    assert (rest.sent, rest.left_out) == (3, {"replayed before": 2})
    assert replay(kafka).sent == replay(kafka, "no_uid").sent == replay(kafka, "bad_ts").sent == 0
    assert sorted(value or b"" for value in kafka.values("feed")) == [b"2", b"2", b"{}", b"{}", b"{}"]


@pytest.mark.parametrize(
    ("letter", "why"),
    [
        (LETTER._replace(topic="bucketed"), "of another topic"),
        (LETTER._replace(topic=""), "a line"),
        (LETTER._replace(value=b""), "no value"),
    ],
)
def test_what_cannot_be_replayed_is_left_out_and_said(kafka: FakeKafka, letter: DeadLetter, why: str) -> None:
    put(kafka, letter)
    outcome = replay(kafka)
    assert (outcome.sent, outcome.left_out) == (0, {why: 1})
    assert len(outcome.lines("text")) == 2
    assert kafka.values("feed") == []


@pytest.mark.parametrize("more", [[("bytes_kept", b"2"), ("bytes_total", b"9")], [("left_out", b"key and headers")]])
def test_what_was_cut_to_fit_is_not_replayed(kafka: FakeKafka, more: list[tuple[str, bytes]]) -> None:
    kafka.append("rejected", LETTER.value, headers=[*LETTER.headers(), *more])
    assert replay(kafka).left_out == {"cut": 1}


def test_records_older_than_feed_keeps_get_the_time_of_now_or_stay_where_their_time_is_counted(
    kafka: FakeKafka,
) -> None:
    put(kafka, LETTER._replace(timestamp_ms=NOW_MS - 8 * DAY_MS))
    by_record = replay(kafka, feed=FEED._replace(time_of_record=True))
    assert (by_record.sent, by_record.left_out) == (0, {"too old": 1})
    outcome = replay(kafka, again=True)
    assert (outcome.sent, outcome.time_of_now) == (1, 1)
    assert kafka.records("feed", 1)[0].timestamp_ms == int(kafka.clock.wall() * 1000)
    assert replay(kafka, feed=FEED._replace(keeps_ms=None), again=True).time_of_now == 0


def test_a_record_without_a_time_gets_none_where_it_would_be_counted(kafka: FakeKafka) -> None:
    put(kafka, LETTER._replace(timestamp_ms=NO_TIME))
    by_record = replay(kafka, feed=FEED._replace(time_of_record=True, keeps_ms=None))
    assert (by_record.sent, by_record.left_out) == (0, {"no time": 1})
    assert replay(kafka, again=True).sent == 1


def test_a_replay_that_is_stopped_goes_on_from_there(kafka: FakeKafka) -> None:
    kafka.records_per_poll = 10
    put(kafka, *[LETTER] * 45)
    first = replay(kafka, stop_after=2)
    assert first.stopped
    assert first.lines("text")[0] == f"{first.sent:,} dead letters sent to feed again, stopped before the end"
    rest = replay(kafka)
    assert first.sent + rest.sent == 45
    assert replay(kafka).sent == 0


def test_a_replay_that_fails_commits_nothing_that_is_not_acknowledged(kafka: FakeKafka) -> None:
    put(kafka, *[LETTER] * 5)
    kafka.refuse_after = 2
    with pytest.raises(DeliveryError):
        replay(kafka)
    assert replay(kafka).sent == 5
    kafka.away = True
    with pytest.raises(BrokerAwayError):
        replay(kafka)


def test_the_memory_of_a_topic_that_was_deleted_is_void(kafka: FakeKafka) -> None:
    put(kafka, *[LETTER] * 5)
    replay(kafka)
    kafka.topics.pop("rejected")
    kafka.create("rejected")
    put(kafka, LETTER)
    assert replay(kafka).sent == 1


@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 30)), max_size=20))
def test_the_memory_knows_what_was_replayed(runs: list[tuple[str | None, int]]) -> None:
    memory, known = Memory(), set[tuple[str, int]]()
    for reason, end in runs:
        memory = Memory.read(memory.after(end, reason).position(), 30)
        known |= {(r, offset) for r in "ab" if reason in {r, None} for offset in range(end)}
    found = {
        (r, offset) for r in "ab" for offset in range(31) if offset < max(memory.offset, memory.by_reason.get(r, 0))
    }
    assert found == known


@pytest.mark.parametrize("metadata", ["x", "[]", '{"a":"b"}', '{"a":99}', ""])
def test_metadata_of_another_program_is_no_memory(metadata: str) -> None:
    assert Memory.read(Position(3, metadata), 10) == Memory(3)


@pytest.mark.parametrize(
    ("ts", "expected"),
    [("ts", False), (["ts", "at"], False), ("$timestamp", True), (["$timestamp"], True), (["ts", "$timestamp"], True)],
)
def test_a_time_that_only_falls_back_on_the_record_may_be_the_records_own(ts: str | list[str], expected: bool) -> None:  # noqa: FBT001
    assert may_be_record_time(ts) is expected
