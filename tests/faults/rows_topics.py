"""Rows 14 and 15: nothing happens, and topics that are taken away."""

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import median
from time import monotonic, sleep, time

from accounting import merged_recounts, recount_feed
from damage import open_ledger
from harness import Run, row
from kafka import OffsetAndMetadata, TopicPartition
from patience import until
from system import System, users_in_bucketed
from topics_on_broker import Record
from verdict import count_once, expected_counts, weigh, with_closed
from worker import Worker

from unique_users.aggregation.bucket_users import Origin
from unique_users.aggregation.counts import Count
from unique_users.clients.protocols import Batch
from unique_users.event_time.buckets import Bucket
from unique_users.messages.frame_totals import FrameTotals
from unique_users.queries.recount import Recount, recount

# A consumer looks for topics that were recreated this often; five minutes by default.
METADATA = {"metadata_max_age_ms": 1_000}


@row(14, "idle minutes; an empty topic", idle=True)
def idle(run: Run) -> None:
    every, reports = run.scale((2, 3), (60, 5))
    frames = run.sample(500)
    reporting = {"bucketer": {"report_seconds": every}, "counter": {"report_seconds": every}}
    # An empty topic has nothing that is behind.
    with run.system(reporting, behind=False) as empty, run.system(reporting) as full:
        run.inject()
        run.inject()
        for system in (empty, full):
            system.start_bucketer()
            system.start_counter()
        run.expect(full.start_producer(frames).wait() == 0, "producer failed")
        full.until_caught_up()
        workers = [worker for worker in (*empty.workers, *full.workers) if worker.name != "producer"]
        wanted = [(worker, len(report_times(worker)) + reports) for worker in workers]
        stall = worst_stall(every * (reports + 1)) if run.full else 0
        until(lambda: all(len(report_times(worker)) >= number for worker, number in wanted), f"{reports} reports each")
        for worker in workers:
            check_regular(run, worker, every, 1 + stall)
        for counter in (empty.workers[1], full.workers[1]):
            quiet = [report for _, report in counter.reports()[-reports + 2 :]]
            run.expect(all(r["new"] == 0 and r["lag"] == 0 and r["broker_answers"] for r in quiet), f"idle: {quiet}")
        run.verify(empty, [], empty=True)
        run.verify(full, frames)


def worst_stall(seconds: float) -> float:
    """Let time pass; return by how many seconds this machine was late to wake up a process that only slept."""
    end = monotonic() + seconds
    worst = 0.0
    while (before := monotonic()) < end:
        sleep(0.05)
        worst = max(worst, monotonic() - before - 0.05)
    return worst


def report_times(worker: Worker) -> list[float]:
    return [at for at, _ in worker.reports()] or [line.at for line in worker.lines if "frames read" in line.text]


def check_regular(run: Run, worker: Worker, every: float, tolerance: float) -> None:
    """Every report came at its time, as the median of them tells it, and none was left out."""
    times = report_times(worker)
    off = [at - times[0] - number * every for number, at in enumerate(times)]
    late = [seconds - median(off) for seconds in off]
    run.expect_within(max(map(abs, late)), tolerance, f"{worker.name}: reports were late by {late}")


@row(15, "topic deleted and recreated; positions out of range")
def topics_taken_away(run: Run) -> None:
    run.side_by_side(
        {
            "feed-made-again-while-read": partial(feed_recreated, running=True),
            "feed-made-again-while-stopped": partial(feed_recreated, running=False),
            "bucketed-made-again-while-read": partial(bucketed_recreated, running=True),
            "bucketed-made-again-while-stopped": partial(bucketed_recreated, running=False),
            "feed-trimmed": feed_trimmed,
            "bucketed-trimmed": bucketed_trimmed,
            "positions-beyond-the-end": positions_beyond_the_end,
        }
    )


def counted_once(run: Run, system: System, frames: Sequence[bytes]) -> tuple[Worker, Worker]:
    """Running processes that have counted `frames`."""
    workers = system.start_bucketer(), system.start_counter()
    replay(run, system, frames)
    system.until_caught_up()
    return workers


def replay(run: Run, system: System, frames: Sequence[bytes]) -> None:
    code = system.start_producer(frames).wait(120)
    run.expect(code == 0, f"producer ended with {code}")


def feed_recreated(run: Run, *, running: bool) -> None:
    """What was counted of the old feed stays, what comes in the new one is added, fewer or more frames."""
    size = run.scale(2_000, 10_000)
    old = run.sample(size)
    new = run.sample(run.random.choice((size // 4, size, size * 2)))
    run.inject()
    with run.system({"kafka": METADATA}) as system:
        bucketer, _ = counted_once(run, system, old)
        if not running:
            bucketer.end()
        before = recount_feed(system)
        system.recreate(system.config.topics.feed.name)
        if running:
            run.pause(0, 2)
        replay(run, system, new)
        if not running:
            # The broker has forgotten the group's position together with the topic: there is nothing to be said.
            bucketer = system.start_bucketer()
        system.until_caught_up()
        run.expect(not running or "recreated" in bucketer.complaints, f"nothing was said: {bucketer.last_words()}")
        run.end_all(system)
        run.verify(system, [*old, *new], merged_recounts(before, recount_feed(system)))


def bucketed_recreated(run: Run, *, running: bool) -> None:
    """The state of the old topic is set aside; the counts are those of the new one, which holds the stream again."""
    frames = run.sample(run.scale(2_000, 10_000))
    run.inject()
    with run.system({"kafka": METADATA}) as system:
        _, counter = counted_once(run, system, frames)
        if not running:
            counter.end()
        system.recreate(system.config.topics.bucketed.name)
        if running:
            run.pause(0, 2)
        replay(run, system, frames)
        if not running:
            counter = system.start_counter()
        said = ("deleted and recreated", "counted from another topic")
        system.until(lambda: any(text in counter.complaints for text in said), "a message about bucketed")
        system.until_caught_up()
        # What is in the new topic alone; feed holds the stream twice.
        truth = Recount(recount(frames, system.config, int(time() * 1000)).users, recount_feed(system).counts)
        aside = [path.name for path in system.state.glob("*.old*.sqlite")]
        # The new topic may be known by its offsets before it is by its id: then what was counted until then goes, too.
        run.expect(len(aside) in {1, 2}, f"set aside: {aside}; it said: {counter.complaints}")
        # While it runs, the new topic may be known by its offsets before it is by its id: then counts of it may come
        # under the name of the old one, until they are set aside.
        run.verify(system, [*frames, *frames], truth, never_down=not running)


def feed_trimmed(run: Run) -> None:
    """Frames that retention deleted before they were read are said to be missing; all others are counted."""
    frames = run.sample(run.scale(3_000, 10_000))
    run.inject()
    with run.system() as system:
        feed = system.config.topics.feed.name
        replay(run, system, frames[:1000])
        bucketer = system.start_bucketer()
        system.until_bucketed()
        bucketer.end()
        replay(run, system, frames[1000:])
        read, ends = system.committed(system.config.bucketer.group, feed), system.high_watermark_offsets(feed)
        partition = run.random.choice([number for number, end in ends.items() if end > read[number] + 1])
        first = run.random.randrange(read[partition] + 1, ends[partition])
        parts: dict[int, list[bytes]] = {number: [] for number in ends}
        for record in system.records(feed):
            if record.partition != partition or not read[partition] <= record.offset < first:
                parts[record.partition].append(record.value or b"")
        system.delete_records(feed, first, partition)
        bucketer = system.start_bucketer()
        system.start_counter()
        deleted = first - read[partition]
        system.until(lambda: f"{deleted} records were deleted" in bucketer.complaints, "the loss to be said")
        system.until_caught_up()
        truth = merged_recounts(*(recount(part, system.config, int(time() * 1000)) for part in parts.values()))
        run.verify(system, frames, truth, frames_read=sum(map(len, parts.values())))


def bucketed_trimmed(run: Run) -> None:
    """A counter keeps what it counted and says what is missing; one without a state says from when counts are whole."""
    frames = run.sample(run.scale(3_000, 10_000), seconds=3600)
    run.inject()
    with run.system() as system:
        bucketer, counter = counted_once(run, system, frames[:1000])
        counter.end()
        read = system.written(system.config.topics.bucketed.name)
        replay(run, system, frames[1000:])
        system.until_bucketed()
        bucketer.end()
        records = system.read(system.config.topics.bucketed.name)
        first = run.random.randrange(read + 1, len(records))
        system.delete_records(system.config.topics.bucketed.name, first)
        counter = system.start_counter()
        system.until(lambda: f"{first - read} records were deleted" in counter.complaints, "the loss to be said")
        system.until_caught_up()
        counter.end()
        live = count_once(system, system.state)
        check_counts(run, system, live, [*records[:read], *records[first:]], "live after trimming")
        other = system.directory / f"fresh-{system.config.counter.group}"
        fresh = system.start_counter(settings=[f"state.directory={other}", f"counter.group={other.name}"])
        system.until(lambda: "counts are whole for minutes from" in fresh.complaints, "what is whole to be said")
        left = len(records) - first
        system.until(lambda: sum(r["new"] for _, r in fresh.reports()) == left, "the rest to be read")
        run.expect_end(fresh, fresh.end())
        check_counts(run, system, fresh.counts(), records[first:], "fresh after trimming")


def positions_beyond_the_end(run: Run) -> None:
    """A group and a state that have seen more than there is, as after a broker that lost its last records."""
    frames = run.sample(run.scale(2_000, 10_000))
    run.inject()
    run.inject()
    with run.system() as system:
        system.make_topics()
        feed, bucketed = system.config.topics.feed.name, system.config.topics.bucketed.name
        beyond = OffsetAndMetadata(10_000_000, "", -1)
        system.admin.alter_group_offsets(system.config.bucketer.group, {TopicPartition(feed, 0): beyond})
        (described,) = system.admin.describe_topics([bucketed])
        ledger = open_ledger(system.state, Origin(bucketed, str(described["topic_id"]), 0, 1))
        ledger.add(Batch(0, [b"1704116220"], [b'{"uid":"a user that was lost","ts":1704116221}'], [0], [20_000_000]))
        ledger.save()
        ledger.close()
        replay(run, system, frames)
        for worker in (system.start_bucketer(), system.start_counter()):
            system.until(partial(_says, worker, "but it ends before that"), f"{worker.name} to say it")
        system.until_caught_up()
        run.verify(system, frames)


def check_counts(
    run: Run, system: System, counts: Mapping[Bucket, Count], records: Sequence[Record], what: str
) -> None:
    """`counts` are those of these records of bucketed."""
    expected = expected_counts(system, Recount(users_in_bucketed(records), FrameTotals()))
    run.add(weigh(expected, {what: with_closed(system, expected, counts)}), len(records))


def _says(worker: Worker, text: str) -> bool:
    return text in worker.complaints
