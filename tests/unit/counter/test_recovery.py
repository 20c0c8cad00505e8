"""Where a counter goes on: from its state, or from the start of a topic that was recreated."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from fake_counter import MINUTE, Counter
from fakes import FakeKafka

from unique_users.errors import StateError


def test_many_partitions_are_opened_with_one_question(kafka: FakeKafka, tmp_path: Path) -> None:
    kafka.create("bucketed", partitions=60)
    counter = Counter(kafka, tmp_path / "state")
    for partition in range(60):
        counter.put(f"u{partition}", partition=partition)
    counter.step(2)
    assert len(counter.counting.partitions.open) == 60
    assert counter.consumer.asked == {"watermark_offsets": 1}
    counter.crash()


def test_a_state_that_its_former_owner_saved_after_the_topic_was_asked_for_its_end_is_kept(
    counter: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    """bucketed   a | b   asked for its end after a, while the former owner counts b and saves"""
    counter.put("a")
    counter.step(2)
    counter.counting.save()
    low_high = counter.consumer.watermark_offsets([0])
    counter.put("b")
    counter.step(2)
    counter.counting.save()
    counter.crash()
    ledger = counter.counting.partitions._recovery.recover(0, low_high[0])
    assert ledger.position == 2
    assert "recreated" not in capsys.readouterr().err
    ledger.close()


def test_a_restart_reads_on_where_the_state_ends_whatever_the_group_has_committed(counter: Counter) -> None:
    """records  a b | saved |  c   | CRASH |  from c on"""
    for uid in "ab":
        counter.put(uid)
    counter.step()
    counter.clock.advance(1)
    counter.step()
    counter.put("c")
    counter.step()
    counter.kafka.group("counter", "bucketed").committed.clear()
    counter.crash()
    counter.start()
    counter.step()
    assert counter.consumer.position(0) == 2
    counter.step()
    assert counter.held() == {MINUTE: 3}


@pytest.mark.parametrize("again", ["xy", "wxyz"], ids=["shorter", "longer"])
@pytest.mark.parametrize("runs", [True, False], ids=["while it runs", "while it is stopped"])
def test_a_topic_that_was_made_again_is_counted_from_its_start(
    counter: Counter,
    again: str,
    runs: bool,  # noqa: FBT001
    capsys: pytest.CaptureFixture[str],
) -> None:
    """bucketed   a b c, saved   | deleted, recreated |   x y"""
    for uid in "abc":
        counter.put(uid)
    counter.step()
    counter.clock.advance(1)
    counter.step()
    if not runs:
        counter.crash()
    counter.kafka.delete("bucketed")
    counter.kafka.create("bucketed")
    for uid in again:
        counter.put(uid)
    if not runs:
        counter.start()
    for _ in range(4):
        counter.step()
        counter.clock.advance(1)
    assert counter.held() == {MINUTE: len(again)}
    assert "the old state is" in capsys.readouterr().err
    counter.finish()
    assert counter.held() == {MINUTE: len(again)}


def test_a_state_is_set_aside_when_its_reader_has_let_go_of_it_also_where_topics_have_no_ids(
    counter: Counter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """bucketed   a b c, saved   | read by somebody ... | deleted, recreated |   x y   ... until here |"""
    counter.kafka.topics["bucketed"].id = ""
    for uid in "abc":
        counter.put(uid)
    counter.step()
    counter.clock.advance(1)
    counter.step()
    (state,) = tmp_path.rglob("bucketed-0.sqlite")
    with closing(sqlite3.connect(state, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM progress").fetchall()
        counter.kafka.delete("bucketed")
        counter.kafka.create("bucketed")
        counter.kafka.topics["bucketed"].id = ""
        for uid in "xy":
            counter.put(uid)
        for _ in range(4):
            counter.step()
            counter.clock.advance(1)
        assert "the old state is" not in capsys.readouterr().err
        assert counter.held() == {}
    counter.step(2)
    assert "the old state is" in capsys.readouterr().err
    assert counter.held() == {MINUTE: 2}
    counter.finish()
    assert counter.held() == {MINUTE: 2}


def test_records_that_were_under_way_when_a_topic_was_made_again_are_not_taken_for_progress(counter: Counter) -> None:
    """bucketed   a b c, saved   | deleted, recreated |   w x y z   noticed   v (polled before going back)   saved"""
    for uid in "abc":
        counter.put(uid)
    counter.step()
    counter.clock.advance(1)
    counter.step()
    counter.kafka.delete("bucketed")
    counter.kafka.create("bucketed")
    for uid in "wxyz":
        counter.put(uid)
    counter.clock.advance(1)
    counter.step()
    counter.put("v")
    for _ in range(4):
        counter.clock.advance(1)
        counter.step()
    counter.finish()
    assert counter.held() == {MINUTE: 5}


@pytest.mark.parametrize("idle_seconds", [0, 3])
def test_more_partitions_are_refused_with_what_to_do(counter: Counter, idle_seconds: int) -> None:
    counter.put("a")
    counter.step()
    for _ in range(idle_seconds):
        counter.clock.advance(1)
        counter.step()
    counter.kafka.topics["bucketed"].partitions.append(type(counter.kafka.topics["bucketed"].partitions[0])())
    counter.clock.advance(1)
    with pytest.raises(StateError, match="had 1 partitions, now it has 2"):
        counter.counting.step()
