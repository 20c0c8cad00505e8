"""What the counts of the whole line may be, from all that its logs have held: equal, or rejected, or marked."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fakes import FakeClock, FakeKafka, Record

from unique_users.aggregation.completeness import Why
from unique_users.aggregation.counts import users_in
from unique_users.event_time.buckets import MINUTE, Bucket, Calendar, bucket_timestamp
from unique_users.messages.merged_counts import PublishedBucket

ALLOWED_SECONDS = 120
BLOCK, MEDIANS = 3, 3
WIDE = "5 minutes"
TOO_LOW = {Why.STATE_LOST, Why.RECORDS_DELETED, Why.FILLED_LATE}
Pair = tuple[int, str]  # a minute and a user
Letter = tuple[str, int, int, bytes]  # where a rejected record lay, and what it held


class KeepingKafka(FakeKafka):
    """Keeps what its logs have held: what is trimmed stays in the history of a log, what is cut off does not."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.history: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)
        self.ever: defaultdict[str, list[Record]] = defaultdict(list)

    def append(self, topic: str, *values: bytes | None, partition: int = 0, **more: Any) -> None:
        super().append(topic, *values, partition=partition, **more)
        new = self.records(topic, partition)[-len(values) :]
        self.history[topic, partition] += new
        self.ever[topic] += new

    def cut_back(self, topic: str, end: int, partition: int = 0, *, noticed: bool = True) -> None:
        super().cut_back(topic, end, partition, noticed=noticed)
        kept = [record for record in self.history[topic, partition] if record.offset < end]
        self.history[topic, partition] = kept


class NaiveClock:
    """Whether a frame is late, by the clock's definition alone: all accepted times are kept."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def is_late(self, ts: int) -> bool:
        blocks = [self.times[at : at + BLOCK] for at in range(0, len(self.times) - BLOCK + 1, BLOCK)]
        medians = [sorted(block)[BLOCK // 2] for block in blocks]
        windows = [sorted(medians[max(0, end - MEDIANS) : end]) for end in range(1, len(medians) + 1)]
        now = max((window[(len(window) - 1) // 2] for window in windows), default=None)
        return now is not None and ts < now - ALLOWED_SECONDS

    def admits(self, ts: int) -> bool:
        if late := self.is_late(ts):
            return not late
        self.times.append(ts)
        return True


@dataclass
class Losses:
    """What has been done to the line that a count may be wrong by."""

    frames: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))  # trimmed unread, by partition
    feed_cut: set[int] = field(default_factory=set)  # partitions, whose clocks know frames that are gone
    trimmed: bool = False  # `bucketed`
    cut: bool = False  # `bucketed`
    state: bool = False
    intervals: bool = False

    def reasons(self) -> set[Why]:
        """Those that a mark may have."""
        found: set[Why] = set()
        if any(self.frames.values()) or self.trimmed:
            found.add(Why.RECORDS_DELETED)
        if self.trimmed:  # perhaps before there was a state
            found.add(Why.STATE_LOST)
        if self.cut:
            found |= {Why.LOG_CUT_BACK}
        if self.intervals:
            found.add(Why.FILLED_LATE)
        return found


class Users(NamedTuple):
    """The users of one minute."""

    safe: set[str]  # in a record that is there to be read
    due: set[str]  # those, and all that records were lost of without being late
    most: set[str]  # that a count which is not too high may have
    ever: set[str]


class Oracle:
    """Compares what is published with what the logs have held."""

    def __init__(self, kafka: KeepingKafka, losses: Losses, floors: Mapping[int, int], *, ever_idle: bool) -> None:
        self._kafka = kafka
        self._losses = losses
        self._floors = floors  # the first minutes kept, of those partitions that may have dropped a late one
        self._ever_idle = ever_idle
        self._generations: defaultdict[int, set[str]] = defaultdict(set)
        for record in kafka.records("counts"):
            if record.value is not None:
                value = json.loads(record.value)
                self._generations[value["partition"]].add(value["generation"])
        self.letters = {_source(record): record for record in kafka.records("rejected")}

    def check(self, published: Mapping[Bucket, PublishedBucket], wanted: Collection[str]) -> None:
        missed = self._check_frames()
        late = any(topic == "bucketed" for topic, *_ in self.letters)
        # A log that is cut back is read again, and a clock that begins anew may be behind the low watermark.
        again = self._losses.cut or self._losses.feed_cut
        assert not late or self._ever_idle or again, "rejected as late, and no partition was ever idle"
        minutes = self._minutes(missed)
        for interval in (MINUTE.name, WIDE):
            expected: dict[int, Users] = {}
            for minute, users in minutes.items():
                start = Calendar().start(interval, minute)
                known = expected.setdefault(start, Users(set(), set(), set(), set()))
                for mine, more in zip(known, users, strict=True):
                    mine.update(more)
            found = {bucket.start: of for bucket, of in published.items() if bucket.interval == interval}
            if interval not in wanted:
                # What is to be deleted, a state knows of what it holds: closed buckets stay, and with a lost state all.
                closed = max(self._floors.values(), default=0)
                kept = {start: of for start, of in found.items() if start + 300 > closed}
                assert not kept or self._begun_anew(), f"{interval} is not counted, and published: {kept}"
                continue
            for start in expected.keys() | found.keys():
                self._check_bucket(Bucket(interval, start), found.get(start), expected.get(start))

    def _check_bucket(self, bucket: Bucket, found: PublishedBucket | None, users: Users | None) -> None:
        assert users is not None, f"{bucket}: {found}, and nobody was there"
        if found is None:
            # An interval that is counted again has no bucket of what was dropped before.
            dropped = bucket.interval == WIDE and self._losses.intervals
            assert not users.safe or dropped, f"{bucket}: not published, and there are {users.safe}"
            return
        count, why = users_in(found.total), {Why(reason) for reason in found.why}
        told = f"{bucket}: {found}, and there are {users}"
        assert why <= self._losses.reasons(), told
        assert count <= len(users.ever), told
        assert count >= len(users.safe) or Why.FILLED_LATE in why, told
        assert count >= len(users.due) or why & TOO_LOW, told
        assert count <= len(users.most) or Why.LOG_CUT_BACK in why, told

    def _check_frames(self) -> set[Pair]:
        """Every frame is in `bucketed` or rejected; return what was lost unread and would not have been late."""
        sent = {_pair(record) for record in self._kafka.ever["bucketed"]}
        missed: set[Pair] = set()
        perhaps: set[Pair] = set()
        for (topic, partition), records in list(self._kafka.history.items()):
            if topic == "feed":
                clock = NaiveClock()
                for record in records:
                    frame = json.loads(record.value or b"")
                    if record.offset in self._losses.frames[partition]:
                        perhaps.add(_pair(record))
                        if partition not in self._losses.feed_cut and not clock.is_late(frame["ts"]):
                            missed.add(_pair(record))
                        continue
                    rejected = ("feed", partition, record.offset, record.value) in self.letters
                    admitted = not rejected if partition in self._losses.feed_cut else clock.admits(frame["ts"])
                    told = f"feed-{partition} {record.offset}: {'rejected' if rejected else 'accepted'}"
                    assert (_pair(record) in sent) if admitted else rejected, told
                    assert admitted != rejected or self._losses.frames[partition], told
                    if admitted:
                        perhaps.add(_pair(record))
        assert sent <= perhaps or self._losses.feed_cut or any(self._losses.frames.values())
        return missed

    def _minutes(self, missed: set[Pair]) -> dict[int, Users]:
        minutes: defaultdict[int, Users] = defaultdict(lambda: Users(set(), set(), set(), set()))
        for record in self._kafka.ever["bucketed"]:
            minute, uid = _pair(record)
            minutes[minute].ever.add(uid)
        for (topic, partition), records in list(self._kafka.history.items()):
            if topic == "bucketed":
                unknown = self._nobody_knows_of_a_cut(partition)
                first = self._kafka.topics[topic].partitions[partition].first
                for record in records:
                    minute, uid = _pair(record)
                    users = minutes[minute]
                    users.most.update(users.ever if unknown else {uid})
                    if (topic, partition, record.offset, record.value) in self.letters:
                        continue
                    if record.offset >= first:
                        users.safe.add(uid)
                    if record.offset >= first or not self._may_be_late(minute, partition):
                        users.due.add(uid)
        for minute, uid in missed:
            if not self._may_be_late(minute):
                minutes[minute].due.add(uid)
            minutes[minute].ever.add(uid)
        return minutes

    def _nobody_knows_of_a_cut(self, partition: int) -> bool:
        """Whether the state that knew what it had read was lost, and the start of the log as well; see limits.md."""
        return self._losses.cut and self._losses.trimmed and len(self._generations[partition]) > 1

    def _begun_anew(self) -> bool:
        return any(len(generations) > 1 for generations in self._generations.values())

    def _may_be_late(self, minute: int, partition: int | None = None) -> bool:
        """Whether what was lost of a minute would have come after it was closed."""
        floor = max(self._floors.values(), default=0) if partition is None else self._floors.get(partition, 0)
        return (self._ever_idle or bool(self._losses.feed_cut)) and minute < floor


def _pair(record: Record) -> Pair:
    frame = json.loads(record.value or b"")
    return bucket_timestamp(frame["ts"]), frame["uid"]


def _source(record: Record) -> Letter:
    headers = record.named
    return headers["topic"].decode(), int(headers["partition"]), int(headers["offset"]), record.value or b""


def letters_of_read(letters: Mapping[Letter, Record], losses: Losses) -> Iterator[str]:
    """The reasons of rejected records, without those of frames that no commit tells of."""
    for (topic, partition, offset, _), record in letters.items():
        if topic != "feed" or offset not in losses.frames[partition]:
            yield record.named["reason"].decode()
