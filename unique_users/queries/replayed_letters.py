"""Sending dead letters to `feed` again, after a setting was corrected.

1. read them from where the last replay ended
2. send each to the partition that it came from, with its key, its headers, its time, and one more header
3. wait until all are acknowledged, then commit the progress in the name of a group of its own

An interrupted replay resumes where it last committed. Sending a letter twice changes no count. What is rejected again
has the header, and the next replay leaves it out, so nothing can go in circles.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import orjson

from unique_users.clients.protocols import REQUEST_SECONDS, Consumer, Position, Producer
from unique_users.errors import BrokerAwayError
from unique_users.messages.dead_letters import NO_TIME, REPLAYED, DeadLetter
from unique_users.messages.fields import RECORD_TIME, Field
from unique_users.queries.dead_letters import FoundLetter, read_letters
from unique_users.reports.bucket_count import Format

STEP_LETTERS = 500  # between two checks of what is in flight
COMMIT_LETTERS = 10_000
PATIENCE = 3  # how often to wait for an answer

BEFORE = "replayed before"
SAID = {
    BEFORE: "were replayed before (--again sends them once more)",
    "rejected again": "were replayed before and rejected again: their original letters stand for them",
    "of another topic": "are not from feed: what the counter rejected as late cannot be replayed",
    "a line": "are lines too long for Kafka, sent there by producer.py: replay their file",
    "cut": "were cut to fit into rejected",
    "no value": "have no value: tombstones, and records that could not be unpacked",
    "too old": "are older than feed keeps, and frame.ts may be the record's own time",
    "no time": "have no time, and frame.ts may be the record's own time",
}


class Feed(NamedTuple):
    """The topic to send to."""

    name: str
    partitions: int
    keeps_ms: int | None  # how old a record may be before it is deleted; None: forever, or not known
    time_of_record: bool  # whether the record's own time is the event time, or what it falls back on


def may_be_record_time(ts: str | Sequence[str]) -> bool:
    """Whether the event time, looked for under these names, may be the record's own time."""
    return RECORD_TIME in Field(ts).names


@dataclass
class Memory:
    """How far a partition of `rejected` was replayed: everything up to `offset`, and further for some reasons."""

    offset: int = 0
    by_reason: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, position: Position | None, end: int) -> "Memory":
        """From what was committed. A position after the end belongs to a topic that was deleted."""
        if position is None or position.offset > end:
            return cls()
        try:
            said = orjson.loads(position.metadata or "{}")
        except orjson.JSONDecodeError:
            said = {}
        by_reason = said if isinstance(said, dict) else {}
        return cls(position.offset, {r: o for r, o in by_reason.items() if isinstance(o, int) and o <= end})

    def has(self, found: FoundLetter) -> bool:
        """Whether a letter was replayed."""
        return found.offset < max(self.offset, self.by_reason.get(found.letter.reason, 0))

    def after(self, end: int, reason: str | None) -> "Memory":
        """The progress after everything before `end` was replayed, for one reason or for all."""
        if reason is None:
            end = max(end, self.offset)
            return Memory(end, {other: at for other, at in self.by_reason.items() if at > end})
        return replace(self, by_reason={**self.by_reason, reason: max(end, self.by_reason.get(reason, 0))})

    def position(self) -> Position:
        """What to commit."""
        return Position(self.offset, orjson.dumps(self.by_reason).decode() if self.by_reason else "")


@dataclass
class Outcome:
    """What was sent, and what was not, by a key of SAID."""

    sent: int = 0
    time_of_now: int = 0  # of those sent: with the current time, because feed would delete records as old as theirs
    left_out: Counter[str] = field(default_factory=Counter)
    stopped: bool = False

    def lines(self, form: Format) -> list[str]:
        """As lines to print."""
        if form == "json":
            fields = {"replayed": self.sent, "time_of_now": self.time_of_now, "stopped": self.stopped}
            return [orjson.dumps({**fields, "left_out": dict(self.left_out)}).decode()]
        lines = [f"{self.sent:,} dead letters sent to feed again{', stopped before the end' if self.stopped else ''}"]
        if self.time_of_now:
            lines.append(f"{self.time_of_now:,} of them with the current time: feed deletes records as old as these")
        return lines + [f"{self.left_out[why]:,} {SAID[why]}" for why in SAID if self.left_out[why]]


class LetterReplay:
    """Sends dead letters to `feed` again. `reader` reads `rejected`, with the group that commits the progress."""

    def __init__(
        self, reader: Consumer, producer: Producer, feed: Feed, now_ms: int, stopped: Callable[[], bool]
    ) -> None:
        self._reader = reader
        self._producer = producer
        self._feed = feed
        self._now_ms = now_ms
        self._stopped = stopped
        self._outcome = Outcome()

    def run(self, partitions: Iterable[int], reason: str | None, *, again: bool = False) -> Outcome:
        """Replay what is there now: everything, or what has this reason. `again`: also what was replayed before.

        Raises BrokerAwayError, DeliveryError.
        """
        bounds = self._reader.watermark_offsets(partitions)
        ends = {partition: end for partition, (_, end) in bounds.items()}
        committed = self._reader.committed(ends)
        memories = {partition: Memory.read(committed.get(partition), end) for partition, end in ends.items()}
        begin = {partition: first for partition, (first, _) in bounds.items()}
        reached = dict(begin)
        uncommitted = 0
        for several in read_letters(self._reader, begin, ends):
            for found in several:
                if reason is None or found.letter.reason == reason:
                    self._replay(found, known=not again and memories[found.partition].has(found))
            reached |= {found.partition: found.offset + 1 for found in several}
            uncommitted += len(several)
            if uncommitted >= COMMIT_LETTERS:
                self._commit(memories, reached, reason)
                uncommitted = 0
            if self._stopped():
                self._outcome.stopped = True
                break
        self._commit(memories, reached if self._outcome.stopped else ends, reason)
        return self._outcome

    def _replay(self, found: FoundLetter, *, known: bool) -> None:
        letter = found.letter
        if why := BEFORE if known else self._left_out(letter):
            self._outcome.left_out[why] += 1
            return
        timestamp_ms = None if letter.timestamp_ms == NO_TIME else letter.timestamp_ms
        if timestamp_ms is not None and self._too_old(timestamp_ms):
            timestamp_ms = None
            self._outcome.time_of_now += 1
        headers = [*letter.record_headers, (REPLAYED, b"1")]
        partition = letter.partition if 0 <= letter.partition < self._feed.partitions else None
        self._producer.send(self._feed.name, letter.value, letter.key, headers, partition, timestamp_ms)
        self._outcome.sent += 1
        if self._outcome.sent % STEP_LETTERS == 0:
            self._wait(self._producer.backpressure_eased)

    def _left_out(self, letter: DeadLetter) -> str | None:
        """Why a letter is not replayed, None if it is."""
        no_time = letter.timestamp_ms == NO_TIME
        reasons = {
            "rejected again": letter.replayed,
            "a line": not letter.topic,
            "of another topic": letter.topic != self._feed.name,
            "cut": letter.bytes_total is not None or letter.left_out,
            "no value": not letter.value,
            "no time": self._feed.time_of_record and no_time,
            "too old": self._feed.time_of_record and self._too_old(letter.timestamp_ms),
        }
        return next((why for why, holds in reasons.items() if holds), None)

    def _too_old(self, timestamp_ms: int) -> bool:
        return self._feed.keeps_ms is not None and timestamp_ms < self._now_ms - self._feed.keeps_ms

    def _commit(self, memories: Mapping[int, Memory], reached: Mapping[int, int], reason: str | None) -> None:
        self._wait(self._producer.flush)
        self._reader.commit({p: memories[p].after(end, reason).position() for p, end in reached.items()})

    def _wait(self, ready: Callable[[float], bool]) -> None:
        for _ in range(PATIENCE):
            if ready(REQUEST_SECONDS):
                return
        raise BrokerAwayError("the broker does not acknowledge: some letters may not have been sent, replay them again")
