"""Rows 21 to 23: what would mix, lose or falsify counts is kept apart, refused or marked."""

import shutil
import time
from collections.abc import Sequence
from functools import partial

from accounting import recount_feed, sum_problems, until_all_is_accounted_for
from harness import Run, row
from kafka import KafkaProducer
from rows_topics import METADATA, counted_once, replay
from system import ESTIMATES, System
from verdict import expected_counts, published_buckets, went_down
from worker import Worker

from unique_users.aggregation.completeness import RECORD_AHEAD_SECONDS
from unique_users.event_time.buckets import MINUTE, Bucket, bucket_timestamp
from unique_users.messages.merged_counts import merged_buckets
from unique_users.queries.recount import recount

EVERYTHING = ["5 minutes", "hour", "day", "week", "month", "year"]


@row(21, "feed and bucketed recreated while counts stays: no mixture of generations")
def recreated(run: Run) -> None:
    run.side_by_side(
        {
            "while-running": partial(recreated_once, running=True),
            "while-stopped": partial(recreated_once, running=False),
        }
    )


def recreated_once(run: Run, *, running: bool) -> None:
    """What stands in counts afterwards is of the new topics alone, also when a counter of the old one wakes up."""
    size = run.scale(2_000, 10_000)
    old, new = run.sample(size), run.sample(run.random.choice((size // 4, size * 2)))
    with run.system({"kafka": METADATA}) as system:
        workers = counted_once(run, system, old)
        counter = workers[-1]
        former = {record.key: record.value for record in system.read(system.config.topics.counts.name)}
        if not running:
            for worker in workers:
                worker.end()
        for topic in (system.config.topics.feed, system.config.topics.bucketed):
            system.recreate(topic.name)
        run.inject()
        replay(run, system, new)
        if not running:
            system.start_bucketer()
            counter = system.start_counter()
        truth = recount(new, system.config, int(time.time() * 1000))
        expected = expected_counts(system, truth)
        system.until(lambda: _published(system) == expected, "counts of the new topics alone")
        with KafkaProducer(bootstrap_servers=system.direct.bootstrap_servers, acks="all") as producer:
            for key, value in former.items():
                producer.send(system.config.topics.counts.name, value, key)
            producer.flush()
        run.inject()
        run.expect(_published(system) == expected, "a counter of the old topic won")
        # A bucketer that had begun to read the new topics as the old ones reads them again, and commits that.
        until_all_is_accounted_for(system, counter)
        run.verify(system, new, truth, never_down=not running)


@row(22, "a start with an interval, zone, retention or estimate changed or forgotten: refused, or told and reversible")
def changed(run: Run) -> None:
    """Refused starts change nothing; dropped intervals come back whole, as their minutes are still there."""
    frames = run.sample(run.scale(3_000, 15_000))
    half = len(frames) // 2
    with run.system({"counter": {"retention_seconds": 172_800}}) as system:
        _, counter = counted_once(run, system, frames[:half])
        counter.end()
        for settings, names in changes(system):
            run.inject()
            refused_once(run, system, settings, names)
        counter = system.start_counter()
        replay(run, system, frames[half:])
        system.until_caught_up()
        counter.end()
        names = run.random.sample(EVERYTHING, 3)
        kept = f"counter.intervals=[minute, {', '.join(name for name in EVERYTHING if name not in names)}]"
        estimates = ", ".join(name for name in system.config.counter.estimates if name not in names)
        settings = [kept, f"counter.estimates=[{estimates}]"]
        flags = [part for name in names for part in ("--drop", name)]
        for _ in range(run.scale(2, 5)):
            counter = system.start("counter", "--format", "json", *flags, settings=settings)
            run.pause(0.5, 2)
            counter.kill()
            run.inject(kill=True)
        counter = system.start("counter", "--format", "json", *flags, settings=settings)
        system.until(partial(_none_of, system, names), f"no {names} in counts any more")
        system.until(partial(_reports, counter), "the counter to report")
        run.expect_end(counter, counter.end())
        system.start_counter()
        expected = expected_counts(system, recount_feed(system))
        system.until(lambda: _published(system) == expected, "the dropped intervals to be counted again")
        run.verify(system, frames)


def changes(system: System) -> list[tuple[list[str], list[str]]]:
    """Settings that somebody may forget or change, and what each would drop."""
    estimates = system.config.counter.estimates
    other = [] if estimates else ESTIMATES
    return [
        (["counter.intervals=[minute]", "counter.estimates=[]"], EVERYTHING),
        (["counter.timezone=Asia/Tokyo"], ["day", "week", "month", "year"]),
        ([f"counter.estimates=[{', '.join(other)}]"], ESTIMATES),
        (["bucketer.allowed_lateness_seconds=60", "counter.retention_seconds=60"], ["retention"]),
    ]


def refused_once(run: Run, system: System, settings: Sequence[str], names: Sequence[str]) -> None:
    """A start that says what it would drop and how to keep it, and changes nothing."""
    counts, state = system.config.topics.counts.name, system.state_file()
    before = state.read_bytes(), system.written(counts)
    counter = system.start_counter(settings=settings)
    run.expect(counter.wait(60) == 2, f"with {settings} it ended with {counter.exit_code}: {counter.complaints}")
    for name in names:
        run.expect(f'--drop "{name}"' in counter.complaints or f"--drop {name})" in counter.complaints, name)
    run.expect((state.read_bytes(), system.written(counts)) == before, f"{settings}: a refused start changed something")


@row(23, "state lost and bucketed trimmed: marked where it stands until whole or closed")
def lost(run: Run) -> None:
    """Whatever differs from the truth, or may, is marked in counts and in the report; what comes later is whole."""
    frames = run.sample(run.scale(3_000, 10_000))
    half = len(frames) // 2
    ahead = 1
    settings = {"bucketer": {"future_seconds_max": ahead}, "counter": {"retention_seconds": 0}}
    with run.system(settings) as system:
        _, counter = counted_once(run, system, frames[:half])
        counter.end()  # everything is published
        shutil.rmtree(system.state)
        bucketed = system.config.topics.bucketed.name
        first = run.random.randrange(1, system.written(bucketed))
        system.delete_records(bucketed, first)
        run.inject()
        kept = system.read(bucketed)
        counter = system.start_counter()
        run.pause(0, 2)
        if run.random.random() < 0.5:
            counter.kill()
            run.inject(kill=True)
            counter = system.start_counter()
        replay(run, system, frames[half:])
        system.until_caught_up()
        truth = expected_counts(system, recount_feed(system))
        system.until(lambda: set(_published(system)) == set(truth), "every bucket to be published")
        until_all_is_accounted_for(system, counter)
        counter.end()
        run.problems += sum_problems(system, counter)
        records = system.read(system.config.topics.counts.name)
        for bucket, found in published_buckets(records).items():
            whole = found.total == truth[bucket] and not found.why
            run.expect(whole or "state_lost" in found.why, f"{bucket} says {found} in place of {truth[bucket]}")
        run.problems += went_down((record.key, record.value) for record in records)
        compacted = {record.key: record.value for record in records}  # the last one of each key alone
        for bucket, found in merged_buckets(compacted.values(), compacted.keys()).items():
            run.expect(found.total == truth[bucket] or "state_lost" in found.why, f"compacted: {bucket}: {found}")
        marked = [line.text for line in counter.lines if '"why":["state_lost"]' in line.text]
        run.expect(bool(marked), f"no line of the report is marked: {counter.last_words()}")
        run.frames += len(frames)
        if run.full:
            later_is_whole(run, system, kept[0].timestamp_ms // 1000 + ahead + RECORD_AHEAD_SECONDS)


def later_is_whole(run: Run, system: System, whole_from: int) -> None:
    """A minute that began so long after the first kept record that no frame of it can be gone.

    It lies more than an hour ahead, which the bucketer is told to accept.
    """
    minute = bucket_timestamp(whole_from) + 120
    for worker in system.workers:
        if worker.name == "bucketer":
            worker.end()
    system.start_bucketer(settings=["bucketer.future_seconds_max=20000"])
    system.start_counter()
    system.send(b'{"uid":"live %d","ts":%d}' % (number, minute) for number in range(10))
    bucket = Bucket(MINUTE.name, minute)
    system.until(lambda: bucket in _published(system), "the live minute")
    found = published_buckets(system.read(system.config.topics.counts.name))
    run.expect(found[bucket].total == 10 and not found[bucket].why, f"a later minute: {found[bucket]}")


def _published(system: System) -> dict[Bucket, object]:
    found = published_buckets(system.read(system.config.topics.counts.name))
    return {bucket: what.total for bucket, what in found.items()}


def _reports(counter: Worker) -> bool:
    return bool(counter.reports())


def _none_of(system: System, names: Sequence[str]) -> bool:
    return not any(bucket.interval in names for bucket in _published(system))
