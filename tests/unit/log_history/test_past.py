"""A reader of a log that is cut back and grows again never goes on from a position in another history."""

from collections.abc import Sequence
from itertools import count, pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unique_users.clients.protocols import Batch
from unique_users.messages.checkpoints import CHECKPOINTS_MAX, NEWEST, RECENT, Checkpoint, compare, record_hash, thinned
from unique_users.partition_log.read_history import PAUSE_SECONDS, PAUSES_MAX, Past

MINUTE = 1_704_116_340


class Log:
    """Records with the epoch of the leader that took them; each value is another."""

    def __init__(self, epoch: int) -> None:
        self.first = 0
        self.records: list[tuple[int, bytes]] = []
        self.epoch = epoch  # -1 where nobody tells
        self._values = count()

    @property
    def end(self) -> int:
        return len(self.records)

    def grow(self, number: int) -> None:
        self.records += [(self.epoch, b"%d" % next(self._values)) for _ in range(number)]

    def cut(self, end: int) -> None:
        del self.records[max(end, self.first) :]
        self.epoch += self.epoch >= 0

    def agrees(self, checkpoint: Checkpoint) -> bool:
        epoch, value = self.records[checkpoint.next_offset - 1]
        return record_hash(None, value, 0) == checkpoint.record_hash and epoch == checkpoint.leader_epoch


class Reader:
    """Reads, saves, looks at the broker now and then, as the loops do. `seen` is what it took for the log."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.now = 0.0
        self.past = Past()
        self.seen: list[bytes] = []
        self.saved: tuple[int, tuple[Checkpoint, ...]] = (0, ())
        self.broken = False  # the broker was away since the last look
        self.saves_since = 0

    def read(self, number: int) -> None:
        records = self.log.records[len(self.seen) : len(self.seen) + number]
        if not records:
            return
        at = range(len(self.seen), len(self.seen) + len(records))
        epochs, values = zip(*records, strict=True)
        batch = Batch(0, [None] * len(at), values, [0] * len(at), at, leader_epoch=epochs[-1])
        if self.past.new_leader(batch):
            self.check(self.past.suspects())
            self.past.trust(batch.leader_epoch)
            return
        self.seen += values
        self.past.cover(MINUTE + 60 * len(self.seen))
        self.past.read(batch, self.now)

    def save(self) -> None:
        self.saved = len(self.seen), self.past.remember()
        self.saves_since += 1

    def away(self) -> None:
        """The broker goes away, for longer than between two saves."""
        self.save()
        self.now += 1.5 * PAUSE_SECONDS
        self.broken, self.saves_since = True, 0

    def look(self) -> None:
        if self.broken:
            self.check(self.past.suspects())
        self.broken = False
        self.past.sure(self.now)

    def crash(self) -> None:
        position, history = self.saved
        del self.seen[position:]
        self.past = Past(history)
        self.check(self.past.newest())
        self.broken = False

    def check(self, suspects: Sequence[Checkpoint]) -> None:
        found = compare(self.past.history, suspects, (self.log.first, self.log.end), self.log.agrees)
        if found:
            self.past.go_back(found.offset)
            del self.seen[found.offset :]
            self.saved = found.offset, self.past.history
        held = [value for _, value in self.log.records[: len(self.seen)]]
        assert self.seen == held, "goes on from a position in another history"


@given(st.integers(0, 1 << 60), st.sampled_from([-1, 0]))
@settings(max_examples=300)
def test_no_reader_goes_on_from_a_position_in_another_history(seed: int, epoch: int) -> None:
    random = Random(seed)
    log = Log(epoch)
    reader = Reader(log)
    steps = {"grow": 4, "read": 8, "pass": 4, "save": 3, "look": 1, "crash": 1, "cut": 1}
    for step in random.choices(list(steps), list(steps.values()), k=150):
        if step == "grow":
            log.grow(random.randrange(1, 40))
        elif step == "read":
            reader.read(random.randrange(1, 15))
        elif step == "pass":
            reader.now += random.choice([0.01, 0.1, 0.3])
        elif step == "cut":
            reader.look()
            reader.away()
            log.cut(random.randrange(log.end + 1))
        elif step == "look" or not reader.broken or reader.saves_since < NEWEST - 1:
            getattr(reader, step)()
    reader.look()


def checkpoint(next_offset: int, first: int = 0, last: int = 0) -> Checkpoint:
    return Checkpoint(next_offset, -1, b"%d" % next_offset, first, last)


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=300), st.integers(0, 1 << 30))
def test_checkpoints_get_farther_apart_and_keep_the_minutes_of_those_that_went(sizes: list[int], seed: int) -> None:
    random = Random(seed)
    history: tuple[Checkpoint, ...] = ()
    reached: list[Checkpoint] = []
    offset = 0
    for size in sizes:
        offset += size
        minute = MINUTE + 60 * random.randrange(1_000)
        reached.append(checkpoint(offset, minute, minute + 60 * random.randrange(3)))
        history = thinned([*history, reached[-1]])
    assert len(history) == min(CHECKPOINTS_MAX, len(sizes))
    assert history[0] == reached[0]
    assert [c.next_offset for c in history[-RECENT:]] == [c.next_offset for c in reached[-RECENT:]]
    for gone in reached:
        stands_for_it = next(c for c in history if c.next_offset >= gone.next_offset)
        assert stands_for_it.first_minute <= gone.first_minute
        assert gone.last_minute <= stands_for_it.last_minute


def test_distances_double_at_most() -> None:
    history: tuple[Checkpoint, ...] = ()
    for number in range(1, 20_001):
        history = thinned([*history, checkpoint(number * 100)])
    ages = [history[-1].next_offset - c.next_offset for c in history]
    assert all(older <= 2 * younger for older, younger in pairwise(ages[:-RECENT]))


def test_what_retention_deleted_says_nothing_and_all_that_is_kept_is_read_again() -> None:
    history = [checkpoint(10), checkpoint(20), checkpoint(60)]
    found = compare(history, history[-1:], (30, 100), lambda _: False)
    assert found is not None
    assert (found.back_to, found.offset, found.differs_at) == (history[1], 30, 59)
    assert compare(history, history[:2], (30, 100), lambda _: False) is None


def test_what_was_compacted_away_says_nothing() -> None:
    history = [checkpoint(10), checkpoint(20), checkpoint(60)]
    answers = {60: False, 20: None, 10: True}
    found = compare(history, history[-1:], (0, 100), lambda c: answers[c.next_offset])
    assert found is not None
    assert found.back_to == history[0]
    assert compare(history, history[1:2], (0, 100), lambda c: answers[c.next_offset]) is None


@pytest.mark.parametrize("end", [5, 59])
def test_a_log_that_agrees_with_nothing_is_as_good_as_another(end: int) -> None:
    history = [checkpoint(10), checkpoint(60)]
    found = compare(history, history[-1:], (0, end), lambda _: False)
    assert found is not None
    assert (found.back_to, found.offset) == (None, 0)


def test_a_record_that_was_sent_again_is_another_one() -> None:
    assert record_hash(b"k", b"v", 1) != record_hash(b"k", b"v", 2)
    assert record_hash(b"k", None, 1) != record_hash(None, b"k", 1)
    assert record_hash(b"", None, 1) != record_hash(None, None, 1)


def test_the_longest_pauses_are_remembered() -> None:
    past, now = Past(), 0.0
    for number in range(3 * PAUSES_MAX):
        now += 10.0 if number == 5 else 2 * PAUSE_SECONDS
        past.read(Batch(0, [None], [b"%d" % number], [0], [number]), now)
    assert 5 in {c.next_offset for c in past.suspects()}
    assert len(past.suspects()) == PAUSES_MAX + 1
    past.sure(now)
    assert [c.next_offset for c in past.suspects()] == [3 * PAUSES_MAX]
