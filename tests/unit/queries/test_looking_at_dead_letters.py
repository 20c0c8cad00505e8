"""Dead letters as they are looked at: the last ones, by reason, from all partitions, and safe for a terminal."""

import json

import pytest
from fakes import FakeConsumer, FakeKafka

from unique_users.errors import BrokerAwayError
from unique_users.messages.dead_letters import DeadLetter
from unique_users.queries.dead_letters import FoundLetter, last_letters

LETTER = DeadLetter(
    "bad_ts", "'ts' is a list", "feed", 2, 17, b'{"ts":[]}', b"k", 1_468_244_000_123, (("trace", b"7"), ("n", None))
)


def put(kafka: FakeKafka, letter: DeadLetter, partition: int = 0) -> None:
    """Reject a record; each comes a second after the one before."""
    kafka.clock.advance(1)
    kafka.append("rejected", letter.value, key=letter.key, partition=partition, headers=letter.headers())


def last(kafka: FakeKafka, limit: int | None, reason: str | None = None) -> list[int]:
    """The offsets in feed of the letters that are shown."""
    partitions = len(kafka.topics["rejected"].partitions)
    reader = FakeConsumer(kafka, "rejected", None, alone=True)
    return [found.letter.offset for found in last_letters(reader, partitions, limit, reason)]


def test_the_last_ones_of_all_partitions_come_oldest_first(kafka: FakeKafka) -> None:
    """partition 0   1 _ 3 4 _ _ 7
    partition 1      _ 2 _ _ 5 6 _
    """
    kafka.create("rejected", partitions=2)
    for offset in range(1, 8):
        put(kafka, LETTER._replace(offset=offset), partition=offset in {2, 5, 6})
    assert last(kafka, 3) == [5, 6, 7]
    assert last(kafka, 100) == [1, 2, 3, 4, 5, 6, 7]
    assert sorted(last(kafka, None)) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("per_poll", [1, 3, 5_000])
def test_the_last_ones_of_a_reason_are_found_wherever_they_are(kafka: FakeKafka, per_poll: int) -> None:
    kafka.records_per_poll = per_poll
    for offset in range(50):
        put(kafka, LETTER._replace(offset=offset, reason="bad_ts" if offset % 10 == 0 else "no_uid"))
    assert last(kafka, 2, "bad_ts") == [30, 40]
    assert last(kafka, None, "bad_ts") == [0, 10, 20, 30, 40]
    assert last(kafka, 2, "late") == []


def test_a_topic_that_was_trimmed_or_is_empty_is_read_from_what_is_there(kafka: FakeKafka) -> None:
    assert last(kafka, 5) == []
    for offset in range(6):
        put(kafka, LETTER._replace(offset=offset))
    kafka.trim("rejected", 0, 4)
    assert last(kafka, 5) == [4, 5]
    kafka.trim("rejected", 0, 6)
    assert last(kafka, 5) == []


def test_records_that_are_no_dead_letters_are_left_out(kafka: FakeKafka) -> None:
    kafka.append("rejected", b"v", None, headers=[("other", b"x")])
    kafka.append_unreadable("rejected", 3, "it unpacks to too much")
    put(kafka, LETTER)
    assert last(kafka, 5) == [17]


def test_nothing_is_left_behind_in_any_group(kafka: FakeKafka) -> None:
    put(kafka, LETTER)
    last(kafka, 5)
    assert not any(group.members or group.committed for group in kafka.groups.values())


def test_a_broker_that_goes_away_is_told(kafka: FakeKafka) -> None:
    put(kafka, LETTER)
    reader = FakeConsumer(kafka, "rejected", None, alone=True)
    letters = last_letters(reader, 1, None, None)
    reader.watermark_offsets = lambda partitions: dict.fromkeys(partitions, (0, 2))  # type: ignore[method-assign,assignment,misc]
    assert next(letters).letter.offset == 17
    kafka.away = True
    with pytest.raises(BrokerAwayError):
        next(letters)


def test_a_letter_is_one_line() -> None:
    found = FoundLetter(0, 3, 1_468_244_384_000, LETTER)
    assert found.line("text") == "2016-07-11T13:39:44Z  feed-2@17: bad_ts: 'ts' is a list: {\"ts\":[]}"
    assert json.loads(found.line("json")) == {
        "time": "2016-07-11T13:39:44Z",
        "partition": 0,
        "offset": 3,
        "reason": "bad_ts",
        "detail": "'ts' is a list",
        "source": {"topic": "feed", "partition": 2, "offset": 17},
        "element": None,
        "timestamp_ms": 1_468_244_000_123,
        "key": "k",
        "headers": [["trace", "7"], ["n", None]],
        "value": '{"ts":[]}',
        "bytes_total": 9,
        "replayed": False,
    }


def test_what_is_special_about_a_letter_is_said() -> None:
    element = LETTER._replace(element=4, record_headers=(("replayed", b"1"),))
    assert "  feed-2@17[4]: bad_ts: " in (line := FoundLetter(0, 3, 0, element).line("text"))
    assert line.endswith("  (replayed before)")
    of_a_file = DeadLetter("too_large", "a line of 9000000 bytes", "", -1, -1, b"x" * 100)
    assert "a line of a file: too_large: a line of 9000000 bytes: " in FoundLetter(0, 3, -1, of_a_file).line("text")
    cut = LETTER._replace(value=b"\xff\x1b", bytes_total=9)
    assert (
        json.loads(line := FoundLetter(0, 3, 0, cut).line("json")).items()
        >= {"value": {"base64": "/xs="}, "bytes_total": 9}.items()
    )
    for each in (cut, LETTER._replace(detail="\x1b[2J\u202e", value="\x1b\u202e".encode())):
        assert FoundLetter(0, 3, 0, each).line("text").isprintable()
        assert FoundLetter(0, 3, 0, each).line("json").isprintable()
