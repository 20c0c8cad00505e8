"""The bucketer's loop: nothing is lost, whatever happens between a record and its commit."""

import pytest
from fake_bucketer import Feed
from fakes import FakeClock, FakeKafka, FakeProducer, FakeStop
from hypothesis import example, given, settings
from hypothesis import strategies as st

CRASH, COMMIT, REFUSE, EVICT, AWAY, BACK = "CRASH", "COMMIT", "REFUSE", "EVICT", "AWAY", "BACK"


def test_frames_become_records_keyed_by_their_minute(feed: Feed) -> None:
    feed.put("a", 1_468_244_399)
    feed.put("b", 1_468_244_400)
    feed.finish()
    assert [(record.key, record.value) for record in feed.kafka.records("bucketed")] == [
        (b"1468244340", b'{"uid":"a","ts":1468244399}'),
        (b"1468244400", b'{"uid":"b","ts":1468244400}'),
    ]
    assert feed.committed() == 2


def test_a_commit_comes_after_the_acknowledgement_and_never_before(feed: Feed) -> None:
    """seconds  0        1
    frames   a b      |
    commit            2
    """
    feed.put("a")
    feed.put("b")
    feed.step()
    assert feed.kafka.values("bucketed") == []
    assert feed.committed() == 0
    feed.kafka.away = True
    feed.clock.advance(5)
    feed.step(5)
    assert feed.committed() == 0
    feed.kafka.away = False
    feed.clock.advance(1)
    feed.step()
    assert feed.bucketed() == ["a", "b"]
    assert feed.committed() == 2
    assert feed.bucketing.counts.accepted == 2


def test_a_crash_between_acknowledgement_and_commit_sends_frames_twice_and_loses_none(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CrashError(Exception):
        pass

    def crash(*_: object) -> bool:
        raise CrashError

    feed.put("a")
    feed.step()
    monkeypatch.setattr(feed.consumer, "commit", crash)
    feed.clock.advance(1)
    with pytest.raises(CrashError):
        feed.step()
    assert feed.bucketed() == ["a"]
    assert feed.committed() == 0
    feed.finish()
    assert feed.bucketed() == ["a", "a"]
    assert feed.committed() == 1


@pytest.mark.parametrize(
    "events",
    [
        [1, 2, CRASH, 3],
        [1, COMMIT, 2, CRASH, 3],
        [1, 2, COMMIT, CRASH, 3],
        [1, CRASH, CRASH, 2, COMMIT, 3, CRASH],
        [1, REFUSE, 2, COMMIT, 3],
        [1, EVICT, 2, COMMIT, 3],
        [1, 2, AWAY, COMMIT, CRASH, BACK, 3],
    ],
)
def test_a_crash_loses_nothing(kafka: FakeKafka, events: list[int | str]) -> None:
    run_events(Feed(kafka), events)


@settings(max_examples=150)
@given(st.lists(st.integers(0, 1) | st.sampled_from([CRASH, COMMIT, REFUSE, EVICT, AWAY, BACK]), max_size=25))
@example([0, 1, REFUSE, COMMIT, EVICT, 0, COMMIT, CRASH, 1])
def test_no_order_of_faults_loses_a_frame(events: list[int | str]) -> None:
    kafka = FakeKafka(FakeClock())
    kafka.create("feed", partitions=2)
    kafka.create("bucketed", partitions=2)
    kafka.create("rejected")
    kafka.records_per_poll = 2
    run_events(Feed(kafka), events)


def run_events(feed: Feed, events: list[int | str]) -> None:
    """Put a frame for each number, inject each fault, and step after each; then finish and look."""
    partitions = len(feed.kafka.topics["feed"].partitions)
    put = []
    for number, event in enumerate(events):
        if event == CRASH:
            feed.crash()
            if not feed.kafka.away:
                feed.start()
        elif event == COMMIT:
            feed.clock.advance(1)
        elif event == REFUSE:
            feed.kafka.refuse_after = number % 3
        elif event == EVICT:
            feed.crash()
        elif event in (AWAY, BACK):
            feed.kafka.away = event == AWAY
        else:
            put.append(f"u{number}")
            feed.put(put[-1], partition=int(event) % partitions)
        feed.bucketing.step()
        feed.assert_what_is_committed_has_arrived()
    feed.kafka.away = False
    feed.finish()
    assert {*feed.bucketed()} == {*put}
    assert [feed.committed(p) for p in range(partitions)] == [log.end for log in feed.kafka.topics["feed"].partitions]
    assert feed.rejected() == []


def test_until_caught_up_ends_where_the_topic_ended_and_commits(feed: Feed, capsys: pytest.CaptureFixture[str]) -> None:
    feed.kafka.records_per_poll = 1
    for uid in "abc":
        feed.put(uid)
    feed.crash()
    feed.start(until={0: 2})
    steps = 1
    while feed.bucketing.step():
        steps += 1
        assert steps < 20
    assert feed.committed() == 2
    feed.bucketing.close()
    assert feed.bucketed() == ["a", "b"]
    assert "2 frames read (+2), lag 1\n" in capsys.readouterr().out


def test_until_caught_up_ends_at_once_where_the_topic_is_empty(feed: Feed) -> None:
    feed.finish()
    assert feed.bucketed() == []


def test_a_stop_commits_what_was_read_and_leaves_the_group(feed: Feed, stop: FakeStop) -> None:
    feed.put("a")
    feed.step()
    stop.request()
    assert not feed.bucketing.step()
    feed.bucketing.close()
    assert feed.committed() == 1
    assert feed.consumer.closed
    assert feed.producers[-1].closed


def test_a_stop_while_the_broker_is_away_ends_in_under_10_seconds(
    feed: Feed, capsys: pytest.CaptureFixture[str]
) -> None:
    feed.put("a")
    feed.step()
    feed.kafka.away = True
    before = feed.clock.monotonic()
    feed.bucketing.close()
    assert feed.clock.monotonic() - before < 10
    assert "1 frames are not committed: the next start reads them again" in capsys.readouterr().err
    assert feed.consumer.closed


def test_a_stop_while_the_first_producer_waits_for_the_broker_ends_the_loop(kafka: FakeKafka, stop: FakeStop) -> None:
    feed = Feed(kafka, stop)
    feed._new_producer = lambda: None  # type: ignore[method-assign,assignment,return-value]
    feed.start()
    assert not feed.bucketing.step()
    feed.bucketing.close()
    assert feed.consumer.closed


def test_a_producer_that_takes_nothing_more_stops_the_reading(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeProducer, "backpressure_eased", lambda *_: False)
    feed.put("a")
    feed.step(10)
    assert feed.consumer.position(0) == 0


def test_errors_other_than_delivery_end_the_loop(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    feed.put("a")
    monkeypatch.setattr(FakeProducer, "send_all", broken)
    with pytest.raises(ZeroDivisionError):
        feed.bucketing.step()
