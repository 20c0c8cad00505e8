"""Counter and bucketer on a log that is cut back under them: nothing of the log as it is now is missing."""

import json
from collections import defaultdict
from collections.abc import Sequence
from random import Random

import pytest
from fake_bucketer import Feed
from fake_counter import MINUTE, Counter
from fakes import FakeClock, FakeKafka
from hypothesis import given, settings
from hypothesis import strategies as st

from unique_users.aggregation.completeness import Gap, Why, why_not_whole
from unique_users.clients.protocols import Position
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.messages.offset_metadata import OffsetMetadata

NOTICED = [True, False]


def read(counter: Counter, uids: str, minute: int = MINUTE) -> None:
    """Put users into a minute; the counter reads and saves them."""
    for uid in uids:
        counter.put(uid, minute)
    settle(counter)


def settle(counter: Counter) -> None:
    for _ in range(3):
        counter.clock.advance(1)
        counter.step()


def gaps(counter: Counter) -> Sequence[Gap]:
    (ledger,) = counter.counting.partitions.open.values()
    return ledger.facts.gaps


@pytest.mark.parametrize("noticed", NOTICED, ids=["broker was away", "another leader"])
def test_a_counter_that_runs_reads_again_what_a_log_holds_that_grew_again(
    counter: Counter,
    noticed: bool,  # noqa: FBT001
    capsys: pytest.CaptureFixture[str],
) -> None:
    """bucketed   a b │ c d   saved   | cut back to a b |   a b │ e f g h"""
    read(counter, "ab")
    read(counter, "cd", MINUTE + 60)
    counter.kafka.cut_back("bucketed", 2, noticed=noticed)
    read(counter, "efgh", MINUTE + 120)
    assert counter.held() == {MINUTE: 2, MINUTE + 60: 2, MINUTE + 120: 4}
    assert gaps(counter) == (Gap("", MINUTE + 60, MINUTE + 120, Why.LOG_CUT_BACK),)
    assert counter.published() == counter.held()
    said = capsys.readouterr().err
    assert said.count("bucketed-0: was cut back: offset 3 no longer holds the record read there") == 1
    assert "reading again from offset 2" in said
    assert "minutes 2016-07-11T13:40:00Z to 2016-07-11T13:40:00Z are marked" in said
    assert counter.kafka.group("counter", "bucketed").committed[0].offset == 6


@pytest.mark.parametrize("grows", [0, 1, 4])
def test_a_counter_that_was_away_goes_back_to_where_the_log_is_the_same(
    counter: Counter, grows: int, capsys: pytest.CaptureFixture[str]
) -> None:
    read(counter, "ab")
    read(counter, "cd", MINUTE + 60)
    counter.crash()
    counter.kafka.cut_back("bucketed", 3)
    for uid in "efgh"[:grows]:
        counter.put(uid, MINUTE + 120)
    counter.start()
    settle(counter)
    assert counter.held() == {MINUTE: 2, MINUTE + 60: 2, **({MINUTE + 120: grows} if grows else {})}
    assert gaps(counter) == (Gap("", MINUTE + 60, MINUTE + 120, Why.LOG_CUT_BACK),)
    assert "was cut back" in capsys.readouterr().err
    counter.crash()
    counter.start()
    settle(counter)
    assert "was cut back" not in capsys.readouterr().err
    assert len(gaps(counter)) == 1


def test_a_counter_that_runs_goes_back_in_a_log_that_became_shorter(
    counter: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    read(counter, "ab")
    read(counter, "cd")
    counter.kafka.cut_back("bucketed", 3, noticed=False)
    settle(counter)
    read(counter, "e")
    assert counter.held() == {MINUTE: 5}
    assert "was cut back" in capsys.readouterr().err


def test_a_cut_that_is_noticed_late_is_found_behind_what_was_read_and_saved_since(counter: Counter) -> None:
    """The last record before the pause tells, not the newest checkpoint, where nobody knows of leaders."""
    log = counter.kafka.topics["bucketed"].partitions[0]
    log.leader_epoch = -1
    read(counter, "ab")
    read(counter, "cd", MINUTE + 60)
    counter.kafka.looks_take_long = True
    log.records = log.records[:2]
    read(counter, "efgh", MINUTE + 120)
    read(counter, "ij", MINUTE + 120)
    assert counter.held()[MINUTE + 120] == 4, "it does not know yet"
    counter.kafka.break_off()
    settle(counter)
    assert counter.held() == {MINUTE: 2, MINUTE + 60: 2, MINUTE + 120: 6}


def test_a_broker_that_comes_back_with_the_same_log_changes_nothing(
    counter: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    read(counter, "ab")
    counter.kafka.topics["bucketed"].partitions[0].leader_epoch += 1
    counter.kafka.break_off()
    read(counter, "cd")
    assert counter.held() == {MINUTE: 4}
    assert gaps(counter) == ()
    assert capsys.readouterr().err == ""


def test_while_the_broker_is_away_what_is_in_doubt_waits(counter: Counter) -> None:
    read(counter, "ab")
    read(counter, "cd")
    counter.kafka.away = True
    settle(counter)
    counter.kafka.cut_back("bucketed", 2, noticed=False)
    settle(counter)
    counter.kafka.away = False
    read(counter, "efg", MINUTE + 60)
    assert counter.held() == {MINUTE: 4, MINUTE + 60: 3}


def test_a_log_that_holds_nothing_of_what_was_counted_is_another_one(
    counter: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    read(counter, "ab")
    read(counter, "cd")
    counter.kafka.cut_back("bucketed", 0)
    read(counter, "efghij", MINUTE + 60)
    assert counter.held() == {MINUTE + 60: 6}
    assert "it holds other records, so it was deleted and recreated" in capsys.readouterr().err


CUT, CRASH, GROW, STEP, BREAK = "CUT", "CRASH", "GROW", "STEP", "BREAK"


@given(st.integers(0, 1 << 60), st.sampled_from([0, -1]))
@settings(max_examples=60)
def test_no_cut_loses_a_user_of_the_present_log_or_adds_one_to_a_bucket_that_is_not_marked(
    tmp_path_factory: pytest.TempPathFactory, seed: int, leader_epoch: int
) -> None:
    random = Random(seed)
    kafka = FakeKafka(FakeClock())
    for topic in ("feed", "bucketed", "counts", "rejected"):
        kafka.create(topic)
    log = kafka.topics["bucketed"].partitions[0]
    log.leader_epoch = leader_epoch
    counter = Counter(kafka, tmp_path_factory.mktemp("state"))
    kafka.records_per_poll = 7
    counter.put("first", MINUTE)
    settle(counter)
    for number, event in enumerate(random.choices([GROW, STEP, CRASH, CUT], [4, 8, 1, 1], k=60)):
        if event == GROW:
            for user in range(random.randrange(1, 12)):
                counter.put(f"{number}-{user}", MINUTE + 60 * random.randrange(number // 8, number // 8 + 3))
        elif event == STEP:
            counter.clock.advance(random.choice([0.1, 0.3, 1.0]))
            counter.step()
        elif event == CRASH:
            counter.crash()
            counter.start()
        else:
            settle(counter)
            kafka.cut_back("bucketed", random.randrange(1, log.end + 1))
            log.leader_epoch = max(leader_epoch, log.leader_epoch if leader_epoch >= 0 else -1)
    for _ in range(60):
        counter.clock.advance(1)
        counter.step()
    present = defaultdict(set)
    for record in log.records:
        present[int(record.key or b"")].add(json.loads(record.value or b"")["uid"])
    held = counter.held()
    for minute in {*held, *present}:
        whole = not why_not_whole(gaps(counter), Bucket("minute", minute), Calendar())
        assert held[minute] >= len(present[minute])
        assert not whole or held[minute] == len(present[minute])
    assert counter.published() == held
    counter.crash()


def feed_with(kafka: FakeKafka, *parts: str) -> Feed:
    """A bucketer that has committed each of these frames, part by part."""
    feed = Feed(kafka)
    for part in parts:
        put(feed, part)
    return feed


def put(feed: Feed, uids: str) -> None:
    for uid in uids:
        feed.put(uid)
    for _ in range(4):
        feed.clock.advance(1)
        feed.step()


@pytest.mark.parametrize("noticed", NOTICED, ids=["broker was away", "another leader"])
def test_a_bucketer_that_runs_reads_again_what_a_feed_holds_that_grew_again(
    kafka: FakeKafka,
    noticed: bool,  # noqa: FBT001
    capsys: pytest.CaptureFixture[str],
) -> None:
    feed = feed_with(kafka, "ab", "cd")
    kafka.cut_back("feed", 2, noticed=noticed)
    put(feed, "efgh")
    assert feed.bucketed() == [*"abcdefgh"]
    assert feed.committed() == 6
    assert "feed-0: was cut back: offset 3" in capsys.readouterr().err


@pytest.mark.parametrize("grows", ["", "e", "efgh"])
def test_a_bucketer_that_was_away_goes_back_to_where_feed_is_the_same(
    kafka: FakeKafka, grows: str, capsys: pytest.CaptureFixture[str]
) -> None:
    feed = feed_with(kafka, "ab", "cd")
    feed.crash()
    kafka.cut_back("feed", 3)
    feed.start()
    put(feed, grows)
    assert {*feed.bucketed()} == {*"abcd", *grows}
    assert feed.committed() == 3 + len(grows)
    said = capsys.readouterr().err
    assert "feed-0: was cut back: offset 3" in said
    assert "reading again from offset 2" in said


def test_a_bucketer_goes_back_with_what_is_committed(kafka: FakeKafka, capsys: pytest.CaptureFixture[str]) -> None:
    """A broker that was restored: `feed` holds more frames than were committed then, `bucketed` is as it was then."""
    feed = feed_with(kafka, "ab")
    then = kafka.group("bucketer", "feed").committed[0]
    put(feed, "cd")
    kafka.group("bucketer", "feed").committed[0] = then
    kafka.cut_back("bucketed", 2)
    put(feed, "")
    assert feed.bucketed() == [*"abcd"]
    assert feed.committed() == 4
    assert "the committed offset moved back: reading again from offset 2" in capsys.readouterr().err


def test_while_a_feed_is_in_doubt_nothing_is_committed(kafka: FakeKafka) -> None:
    feed = feed_with(kafka, "ab")
    feed.put("c")
    kafka.away = True
    feed.clock.advance(1)
    feed.step()
    kafka.group("bucketer", "feed").committed[0] = Position(0)
    kafka.away = False
    put(feed, "d")
    assert feed.committed() == 4
    assert feed.bucketed().count("a") == 2, "it was sent again, as what was made of it may be gone"


def test_a_commit_holds_a_few_checkpoints_and_stays_short(kafka: FakeKafka) -> None:
    feed = feed_with(kafka, *("abc" for _ in range(40)))
    text = kafka.group("bucketer", "feed").committed[0].metadata
    history = OffsetMetadata.parsed(text).history
    assert len(history) == 7
    assert history[-1].next_offset == 120
    assert history[0].next_offset == 3
    assert OffsetMetadata.parsed(OffsetMetadata(history=history).text()).history == history
    assert OffsetMetadata.parsed(text.replace("history=", "history=x:")).history == ()
    assert len(text) < 4_000
    assert feed.committed() == 120


def test_a_log_that_is_cut_back_between_a_restart_and_the_first_record_is_known_by_its_leader(kafka: FakeKafka) -> None:
    feed = feed_with(kafka, "ab", "cd")
    feed.crash()
    feed.start()
    put(feed, "")
    kafka.cut_back("feed", 3, noticed=False)
    put(feed, "efg")
    assert {*feed.bucketed()} == {*"abcdefg"}


def test_a_counter_knows_the_leader_from_its_state(counter: Counter) -> None:
    read(counter, "ab")
    read(counter, "cd")
    counter.crash()
    counter.start()
    settle(counter)
    counter.kafka.cut_back("bucketed", 3, noticed=False)
    read(counter, "efg")
    assert counter.held() == {MINUTE: 7}


def test_a_counter_that_catches_up_publishes_at_the_end_of_a_log_that_became_shorter_meanwhile(
    counter: Counter,
) -> None:
    counter.kafka.records_per_poll = 1
    read(counter, "ab")
    counter.crash()
    for uid in "cdefghi":
        counter.put(uid)
    counter.start()
    counter.step()
    counter.kafka.cut_back("bucketed", 4)
    settle(counter)
    settle(counter)
    assert counter.published() == counter.held() == {MINUTE: 4}
