"""The end-to-end sum: every frame of feed is counted, or stands in the dead-letter topic with its reason."""

from collections import Counter, defaultdict
from collections.abc import Iterable

import orjson
from harness import Run
from system import Record, System
from verdict import published_counts
from worker import Worker

from unique_users.buckets import bucket_timestamp
from unique_users.estimates import users_in

Source = tuple[bytes, int, int]  # topic, partition and offset of a record


def dead_letters(system: System) -> dict[Source, Record]:
    """The dead letters by the record that they stand for: what was sent again stands there once."""
    found = {}
    for record in system.read(system.config.topics.rejected.name):
        headers = record.headers
        found[headers["topic"], int(headers["partition"]), int(headers["offset"])] = record
    return found


def until_all_is_accounted_for(system: System, counter: Worker) -> None:
    """Wait until a counter's report is about all frames that are in feed: it looks at the line now and then."""

    def accounted() -> bool:
        read = [report["frames"]["read"] for _, report in counter.reports() if report["frames"]]
        return read[-1:] == [system.written(system.config.topics.feed.name)]

    system.until(accounted, 60, "a report about all frames")


def check_every_frame(run: Run, system: System) -> None:
    """End the processes; hold the sum and each minute's users against feed and dead letters alone.

    For plain frames of the form {"uid":…,"ts":…}, and minutes. No clock is asked here: a frame that is not among the
    dead letters must be counted, whatever its time.
    """
    for worker in system.end_all():
        run.expect(worker.exit_code == 0, f"ended with {worker.exit_code}: {worker.last_words()}")
    letters = dead_letters(system)
    frames = system.read(system.config.topics.feed.name)
    feed, bucketed = (topic.encode() for topic in (system.config.topics.feed.name, system.config.topics.bucketed.name))
    accepted = [record for record in frames if (feed, record.partition, record.offset) not in letters]
    late = Counter(_pair(record) for (topic, _, _), record in letters.items() if topic == bucketed)
    sent = Counter(map(_pair, accepted))
    expected = _minutes(pair for pair, number in sent.items() if number > late[pair])
    highest = _minutes(sent)
    counts = published_counts(system.read(system.config.topics.counts.name))
    published = {bucket.start: users_in(count) for bucket, count in counts.items()}
    for minute in highest.keys() | published.keys():
        found = published.get(minute, 0)
        run.lost += max(0, expected.get(minute, 0) - found)
        run.extra += max(0, found - highest.get(minute, 0))
    run.frames += len(frames)
    run.problems += sum_problems(system, len(frames), letters.values())


def sum_problems(system: System, frames: int, letters: Iterable[Record]) -> list[str]:
    """What is wrong with the sum that the last counter printed: frames read = counted + rejected by reason."""
    reports = [report for worker in system.workers for _, report in worker.reports() if report["frames"]]
    if not reports:
        return ["no counter said what became of all frames"]
    said = reports[-1]["frames"]
    reasons = Counter(letter.headers["reason"].decode() for letter in letters)
    problems = []
    if said["read"] != frames:
        problems.append(f"{said['read']} frames read, {frames} are in feed")
    if said["read"] != said["counted"] + sum(said["rejected"].values()):
        problems.append(f"the sum does not hold: {said}")
    if said["rejected"] != reasons:
        problems.append(f"rejected by reason: {said['rejected']}, in the topic {dict(reasons)}")
    return problems


def _pair(record: Record) -> tuple[int, str]:
    value = orjson.loads(record.value or b"")
    return bucket_timestamp(int(value["ts"])), value["uid"]


def _minutes(pairs: Iterable[tuple[int, str]]) -> dict[int, int]:
    users: defaultdict[int, int] = defaultdict(int)
    for minute, _ in set(pairs):
        users[minute] += 1
    return dict(users)
