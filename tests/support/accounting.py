"""The end-to-end sum: every frame of feed is counted, or stands in the dead-letter topic with its reason."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

from msgspec.structs import asdict
from system import System, users_in_bucketed
from topics_on_broker import Record
from worker import Worker

from unique_users.aggregation.counts import Count, users_in
from unique_users.event_time.buckets import MINUTE, Bucket, bucket_timestamp
from unique_users.messages.frame import BadFrameError, FrameFormat
from unique_users.messages.frame_totals import FrameTotals
from unique_users.queries.plain_frames import frames_in
from unique_users.queries.recount import Recount, recount

Source = tuple[bytes, int, int]  # topic, partition and offset of a record


def dead_letters(system: System) -> dict[Source, Record]:
    """The dead letters by the record that they stand for: what was sent again stands there once."""
    found = {}
    for record in system.read(system.config.topics.rejected.name):
        headers = record.headers
        found[headers["topic"], int(headers["partition"]), int(headers["offset"])] = record
    return found


def rejected_by_reason(system: System) -> Counter[str]:
    """The dead letters by reason."""
    return Counter(letter.headers["reason"].decode() for letter in dead_letters(system).values())


def recount_feed(system: System, take: Callable[[Record], None] = lambda _: None) -> Recount:
    """The truth: each partition of feed on its own, in its order. `take` is given every record meanwhile."""
    feed = system.config.topics.feed.name
    return merged_recounts(
        *(
            _recount_partition(system, system.partition(feed, number), take)
            for number in system.high_watermark_offsets(feed)
        )
    )


def merged_recounts(*parts: Recount) -> Recount:
    """The users of all parts together, and all their frames."""
    users: dict[int, set[str]] = {}
    counts = FrameTotals()
    for part in parts:
        counts += part.counts
        for start, uids in part.users.items():
            users.setdefault(start, set()).update(uids)
    return Recount(users, counts)


def _recount_partition(system: System, records: Iterator[Record], take: Callable[[Record], None]) -> Recount:
    first = next(records, None)
    if first is None:
        return Recount({}, FrameTotals())

    def values() -> Iterator[bytes]:
        for record in chain([first], records):
            take(record)
            yield record.value or b""

    return recount(values(), system.config, first.timestamp_ms)


class Account:
    """What the topics alone say of the frames of feed, which it is given one after the other.

    No clock is asked here: a frame that is not among the dead letters must be counted, whatever its time.
    """

    def __init__(self, system: System) -> None:
        topics = system.config.topics
        self._letters = dead_letters(system)
        self._feed = topics.feed.name.encode()
        self._form = FrameFormat(**asdict(system.config.frame))
        self._users: defaultdict[int, set[str]] = defaultdict(set)
        # What counters rejected, and how often it was sent: another frame of that user and minute may be counted.
        self._late = Counter(
            pair
            for (topic, _, _), letter in self._letters.items()
            if topic == topics.bucketed.name.encode()
            for pair in _pairs(letter)
        )
        self._sent = Counter[tuple[int, str]]()
        self._combined = system.config.bucketer.combine  # then a letter may stand for several frames of a user
        self.problems: list[str] = []

    def take(self, frame: Record) -> None:
        """Take in the next frame."""
        if (self._feed, frame.partition, frame.offset) in self._letters:
            return
        for _, found in frames_in(frame.value or b"", self._form):
            if isinstance(found, BadFrameError):
                place = f"feed-{frame.partition}, offset {frame.offset}"
                self.problems.append(f"{place}: {found}, but no dead letter says so")
            else:
                self._accepted(*found)

    def _accepted(self, uid: str, ts: int) -> None:
        minute = bucket_timestamp(ts)
        self._users[minute].add(uid)
        if (minute, uid) in self._late:
            self._sent[minute, uid] += 1

    def weigh(self, counts: Mapping[Bucket, Count]) -> tuple[int, int]:
        """Users missing and users too many in the minutes of these counts."""
        gone: defaultdict[int, int] = defaultdict(int)
        for pair, times in self._late.items():
            gone[pair[0]] += self._combined or self._sent[pair] <= times
        found = {bucket.start: users_in(count) for bucket, count in counts.items() if bucket.interval == MINUTE.name}
        lost = extra = 0
        for minute in self._users.keys() | found.keys():
            highest = len(self._users.get(minute, ()))
            lost += max(0, highest - gone[minute] - found.get(minute, 0))
            extra += max(0, found.get(minute, 0) - highest)
        return lost, extra


def _pairs(letter: Record) -> set[tuple[int, str]]:
    return {(minute, uid) for minute, users in users_in_bucketed([letter]).items() for uid in users}


def until_all_is_accounted_for(system: System, counter: Worker) -> None:
    """Wait until a report is about all of feed and all dead letters: a counter looks at the line now and then."""
    system.until(lambda: not sum_problems(system, counter), "a report about all frames")


def sum_problems(
    system: System, counter: Worker, frames_read: int | None = None, *, all_letters: bool = True
) -> list[str]:
    """What is wrong with the sum that a counter printed last: frames read = counted + rejected by reason.

    `frames_read` is how many that must be: all that feed was given, unless it is named. The dead-letter topic holds
    as many of each reason, if `all_letters` are still in it.
    """
    reports = [report for _, report in counter.reports() if report["frames"]]
    if not reports:
        return [f"no report said what became of all frames: {counter.last_words()}"]
    said = reports[-1]["frames"]
    frames = system.written(system.config.topics.feed.name) if frames_read is None else frames_read
    reasons = rejected_by_reason(system)
    problems = []
    if said["read"] != frames:
        problems.append(f"{said['read']} frames read, {frames} are in feed")
    if said["read"] != said["accepted"] + sum(said["rejected"].values()):
        problems.append(f"the sum does not hold: {said}")
    if all_letters and said["rejected"] != reasons:
        problems.append(f"rejected by reason: {said['rejected']}, in the topic {dict(reasons)}")
    return problems
