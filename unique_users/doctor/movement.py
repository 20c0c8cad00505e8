"""Whether the bucketers and the counters run, and get on: each partition is watched until it moves."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from unique_users.clients.protocols import Position
from unique_users.doctor.examination import Examination
from unique_users.doctor.finding import Finding, ok, warning, wrong
from unique_users.doctor.rights import groups_exist
from unique_users.doctor.topics import partitions_named
from unique_users.errors import BrokerAwayError, BrokerError
from unique_users.messages.offset_metadata import OffsetMetadata

BUCKETER, COUNTER = "bucketer", "counter"
WATCH_SECONDS_MIN, WATCH_SECONDS_MAX = 10.0, 60.0
LOOK_SECONDS = 0.5
BEHIND_SECONDS = 60.0  # what waits longer than that is worth a warning


class Sample(NamedTuple):
    """One look at a topic and the group that reads it, by partition."""

    starts: Mapping[int, int]
    ends: Mapping[int, int]
    committed: Mapping[int, Position]

    def waiting(self) -> dict[int, int]:
        """How many records of each partition wait to be read."""
        return {partition: max(0, end - self._reached(partition)) for partition, end in self.ends.items()}

    def _reached(self, partition: int) -> int:
        if (position := self.committed.get(partition)) is None:
            return self.starts.get(partition, 0)
        return OffsetMetadata.parsed(position.metadata).reached_from(position.offset)

    def lost(self) -> list[int]:
        """The partitions whose next record was deleted before it was read."""
        return [p for p, position in self.committed.items() if position.offset < self.starts.get(p, 0)]


class Line(NamedTuple):
    """A script that reads a topic in a group."""

    script: str
    group: str
    topic: str
    commit_seconds: float

    @property
    def watch_seconds(self) -> float:
        """How long no commit means that it stands still."""
        return min(WATCH_SECONDS_MAX, max(WATCH_SECONDS_MIN, 3 * self.commit_seconds))


def look_at_bucketers(examination: Examination) -> Iterator[Finding]:
    """Look at the way from feed to bucketed."""
    rules = examination.config.bucketer
    return _looked(examination, Line(BUCKETER, rules.group, examination.config.topics.feed.name, rules.commit_seconds))


def look_at_counters(examination: Examination) -> Iterator[Finding]:
    """Look at the way from bucketed to the counts."""
    rules = examination.config.counter
    return _looked(examination, Line(COUNTER, rules.group, examination.config.topics.bucketed.name, rules.save_seconds))


def _looked(examination: Examination, line: Line) -> Iterator[Finding]:
    first = _sample(examination, line)
    members = _members(examination, line)
    if members == 0:
        waiting = sum(first.waiting().values())
        yield wrong(
            line.script,
            f"none is running: the group {line.group!r} has no members, {_records(waiting)} waiting in {line.topic!r}",
            f"start it: `python {line.script}.py`; if it was running, the end of its log says why it ended",
        )
        return
    last, still = _watched(examination, line, first)
    yield from _judged(examination, line, members, last, still)


def _members(examination: Examination, line: Line) -> int | None:
    """How many are in the group; None if this user may not know."""
    if not groups_exist(examination):
        return 0
    try:
        return examination.admin.group_details(line.group).members
    except BrokerAwayError:
        raise
    except BrokerError:
        return None


def _sample(examination: Examination, line: Line) -> Sample:
    admin = examination.admin
    committed = admin.committed(line.group, line.topic) if groups_exist(examination) else {}
    return Sample(admin.starts(line.topic), admin.stable_ends(line.topic), committed)


def _watched(examination: Examination, line: Line, first: Sample) -> tuple[Sample, set[int]]:
    """Look until each partition in which something waits has moved. Returns the last look, and what did not."""
    clock, last = examination.clock, first
    still = {partition for partition, records in first.waiting().items() if records}
    deadline = clock.monotonic() + line.watch_seconds
    while still and clock.monotonic() < deadline:
        clock.pause(LOOK_SECONDS)
        last = _sample(examination, line)
        waiting = last.waiting()
        still = {p for p in still if waiting.get(p) and last.committed.get(p) == first.committed.get(p)}
    return last, still


def _judged(
    examination: Examination, line: Line, members: int | None, last: Sample, still: set[int]
) -> Iterator[Finding]:
    waiting = last.waiting()
    if lost := last.lost():
        says = f"{partitions_named(lost)} of {line.topic!r}: records were deleted before they were read"
        yield wrong(line.script, says, "raise the topic's retention.ms; these counts are marked as not whole")
    if still:
        yield _standing(line, waiting, still)
        return
    number = "running" if members is None else f"{members} running"
    total = sum(waiting.values())
    behind = _behind_seconds(examination, line, last)
    if total and behind > BEHIND_SECONDS:
        says = f"{number}, and {behind:,.0f} s behind: {_records(total)} waiting in {line.topic!r}"
        yield warning(line.script, says, "it makes progress; if this grows, start another one, see docs/scaling.md")
    elif not lost:
        yield ok(line.script, f"{number}, {_records(total)} waiting in {line.topic!r}")


def _standing(line: Line, waiting: Mapping[int, int], still: set[int]) -> Finding:
    held = sum(waiting[partition] for partition in still)
    where = f"{partitions_named(sorted(still))} of {line.topic!r}"
    says = f"{where}: {_records(held)} waiting, and none read within {line.watch_seconds:g} s"
    tool = f"`unique-users broker tool kafka-consumer-groups --describe --group {line.group}`"
    if len(still) < len(waiting):
        do = f"others make progress: {tool} shows who has it; restart that {line.script}, and another one takes it over"
        return wrong(line.script, f"stuck at {says}", do)
    do = f"look at the log of each {line.script} ({tool} shows where they run), and restart it"
    return wrong(line.script, f"running, but it stands still: {says}", do)


def _behind_seconds(examination: Examination, line: Line, last: Sample) -> float:
    """How far the newest record is ahead of what the bucketers have read; 0 where that is not known."""
    read = {p: OffsetMetadata.parsed(position.metadata).newest_ms for p, position in last.committed.items()}
    newest = examination.admin.newest_ms(line.topic) if any(read.values()) else {}
    waiting = last.waiting()
    behind = [newest[p] - at for p, at in read.items() if at is not None and waiting.get(p) and p in newest]
    return max(behind, default=0) / 1000


def _records(number: int) -> str:
    return f"{number:,} record" + ("s" if number != 1 else "") if number else "nothing"
