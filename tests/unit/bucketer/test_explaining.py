"""What the bucketer says about frames that it rejects: an example for each reason, and which fields there are."""

import pytest
from fake_bucketer import Feed
from fakes import FakeKafka

CUT_OFF = "Expecting value: line 1 column 2 (char 1)"
MALFORMED = "Expecting value: line 1 column 1 (char 0)"


def complaints(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [
        line for line in capsys.readouterr().err.splitlines() if "rejected: " in line or "none of the first" in line
    ]


def test_each_reason_has_an_example_with_its_place_once_a_minute(
    feed: Feed, capsys: pytest.CaptureFixture[str]
) -> None:
    feed.put("a")
    feed.kafka.append("feed", b"\x1b[2J", b'{"uid":"u","ts":[]}', b"{", None)
    feed.step()
    assert complaints(capsys) == [
        rf"rejected: feed-0@1: not_json: {MALFORMED}: \x1b[2J (2 for this reason so far)",
        'rejected: feed-0@2: bad_ts: \'ts\' is a list, expected a time: {"uid":"u","ts":[]} (1 for this reason so far)',
        "rejected: feed-0@4: tombstone: the record has a null value (1 for this reason so far)",
    ]
    feed.kafka.append("feed", b"[", b"{")
    feed.step()
    assert complaints(capsys) == []
    feed.clock.advance(60)
    feed.kafka.append("feed", b"[")
    feed.step()
    assert complaints(capsys) == [
        f"rejected: feed-0@7: not_json: {CUT_OFF}: [ (3 for this reason since the last example)"
    ]


def test_when_none_of_the_first_thousand_is_accepted_the_fields_are_named(
    feed: Feed, capsys: pytest.CaptureFixture[str]
) -> None:
    feed.kafka.append("feed", *[b'{"userId":"u","at":{"time":1}}'] * 1_000)
    feed.step()
    assert complaints(capsys)[-1] == (
        "none of the first 1,000 frames was accepted: frame.uid is 'uid', frame.ts is 'ts'; seen instead:"
        " userId (100 %), at.time (100 %); set frame.uid and frame.ts to the fields with the user and the time"
    )


def test_a_report_before_the_thousandth_names_them_and_so_does_the_end(
    feed: Feed, capsys: pytest.CaptureFixture[str]
) -> None:
    feed.kafka.append("feed", *[b'{"userId":"u"}'] * 3)
    feed.step()
    feed.clock.advance(1)
    assert not any("none of the first" in line for line in complaints(capsys))
    feed.step()
    assert "none of the first 3 frames was accepted: " in complaints(capsys)[-1]
    feed.finish()
    feed.kafka.append("feed", b'{"userId":"u"}')
    feed.finish()
    assert "none of the first 1 frames was accepted: " in complaints(capsys)[-1]


def test_what_is_read_again_after_a_failure_stays_one_example(
    kafka: FakeKafka, capsys: pytest.CaptureFixture[str]
) -> None:
    feed = Feed(kafka)
    feed.kafka.append("feed", b"{")
    feed.step()
    feed.kafka.refuse_after = 0
    feed.clock.advance(1)
    feed.step(3)
    assert len(complaints(capsys)) == 1
