"""When a minute is closed, and what becomes of records that come for it after that."""

from pathlib import Path

import pytest
from fake_counter import MINUTE, Counter, settle
from fakes import FakeKafka

from unique_users.messages.offset_metadata import late_of


def test_minutes_past_their_retention_keep_their_published_count(kafka: FakeKafka, tmp_path: Path) -> None:
    """minutes   0 (3 users)   ......  101 x 1 hour later   |   0 again (1 user)"""
    counter = Counter(kafka, tmp_path, retention_seconds=600)
    counter.step()
    for uid in "abc":
        counter.put(uid)
    counter.step()
    for number in range(101):
        counter.put(f"u{number}", MINUTE + 3_600)
    counter.bucketers_are_at(MINUTE + 3_600)
    for _ in range(3):
        counter.step()
        counter.clock.advance(1)
    assert counter.held() == {MINUTE + 3_600: 101}
    counter.put("d")
    for _ in range(3):
        counter.step()
        counter.clock.advance(1)
    assert counter.held() == {MINUTE + 3_600: 101}
    assert counter.published() == {MINUTE: 3, MINUTE + 3_600: 101}
    counter.crash()


def test_what_comes_for_a_minute_that_is_gone_is_rejected_as_late(
    kafka: FakeKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """minutes   0 (1 user)   ......  1 hour later: 0 is dropped   |   0 again, twice, and a new one   | CRASH, again"""
    counter = Counter(kafka, tmp_path, retention_seconds=600)
    counter.step()
    counter.put("a")
    counter.put("b", MINUTE + 3_600)
    counter.bucketers_are_at(MINUTE + 3_600)
    settle(counter)
    for uid, minute in (("c", MINUTE), ("d", MINUTE + 3_600), ("e", MINUTE)):
        counter.put(uid, minute)
    kafka.refuse_after = 0
    settle(counter)
    counter.crash()
    counter.start()
    settle(counter)
    assert counter.published() == {MINUTE: 1, MINUTE + 3_600: 2}
    letters = {tuple(record.headers): record for record in kafka.records("rejected")}
    assert [(record.key, record.value) for record in letters.values()] == [
        (b"%d" % MINUTE, b'{"uid":"c","ts":%d}' % MINUTE),
        (b"%d" % MINUTE, b'{"uid":"e","ts":%d}' % MINUTE),
    ]
    assert [dict(record.headers)["offset"] for record in letters.values()] == [b"2", b"4"]
    assert {dict(record.headers)["reason"] for record in letters.values()} == {b"late"}
    assert "rejected: bucketed-0@2: late: its minute is closed; " in (said := capsys.readouterr().err)
    assert said.count("rejected: ") == 1
    assert late_of(kafka.group("counter", "bucketed").committed[0].metadata) == 2
    counter.crash()


def test_late_records_that_are_not_delivered_at_the_end_are_told(
    kafka: FakeKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counter = Counter(kafka, tmp_path, retention_seconds=600)
    counter.step()
    counter.put("a", MINUTE + 3_600)
    counter.bucketers_are_at(MINUTE + 3_600)
    counter.put("b")
    settle(counter)
    counter.put("c")
    kafka.refuse_after = 0
    counter.step()
    kafka.away = True
    counter.counting.close()
    assert "late records not yet in 'rejected': 1; the next start reads them again" in capsys.readouterr().err
    kafka.away = False
    counter.start()
    settle(counter)
    assert [record.value for record in kafka.records("rejected")] == [b'{"uid":"c","ts":%d}' % MINUTE]
    counter.crash()


@pytest.mark.parametrize(("key", "value"), [(b"9" * 5_000, b'{"uid":"x"}'), (b"%d" % MINUTE, b"?")])
def test_records_of_other_programs_beside_late_ones_are_unreadable_and_no_dead_letters(
    kafka: FakeKafka, tmp_path: Path, key: bytes, value: bytes
) -> None:
    counter = Counter(kafka, tmp_path, retention_seconds=600)
    counter.step()
    counter.put("a", MINUTE + 3_600)
    counter.bucketers_are_at(MINUTE + 3_600)
    counter.put("b")
    settle(counter)
    assert counter.held() == {MINUTE + 3_600: 1}
    counter.put("c")
    kafka.append("bucketed", value, key=key)
    counter.put("d")
    settle(counter)
    assert [dict(record.headers)["offset"] for record in kafka.records("rejected")] == [b"2", b"4"]
    assert late_of(kafka.group("counter", "bucketed").committed[0].metadata) == 2
    counter.crash()


def test_a_minute_stays_as_long_as_one_partition_of_feed_may_bring_more_for_it(
    kafka: FakeKafka, tmp_path: Path
) -> None:
    """feed-0 is an hour ahead of feed-1"""
    counter = Counter(kafka, tmp_path, retention_seconds=600)
    counter.step()
    counter.put("a")
    kafka.create("feed", partitions=2)
    counter.bucketers_are_at(MINUTE + 3_600, 0)
    settle(counter)
    kafka.append("feed", b"{}", partition=1)
    for _ in range(100):
        settle(counter)
    assert counter.held() == {MINUTE: 1}, "nobody has read feed-1 yet"
    counter.bucketers_are_at(MINUTE + 60, 1)
    settle(counter)
    assert counter.held() == {MINUTE: 1}
    counter.bucketers_are_at(MINUTE + 3_600, 1)
    settle(counter)
    assert counter.held() == {}
    counter.crash()


def test_nothing_is_dropped_before_the_records_that_a_commit_vouches_for_are_read(
    kafka: FakeKafka, tmp_path: Path
) -> None:
    """The commit says that all of minute 0 is in `bucketed`; one record of it is not polled yet."""
    kafka.records_per_poll = 1
    counter = Counter(kafka, tmp_path, retention_seconds=600)
    counter.step()
    for uid in "abc":
        counter.put(uid)
    counter.bucketers_are_at(MINUTE + 3_600)
    for count in (1, 2):
        counter.step()
        counter.clock.advance(1)
        assert counter.held() == {MINUTE: count}
    settle(counter)
    assert counter.published() == {MINUTE: 3}
    assert kafka.records("rejected") == []
    counter.crash()
