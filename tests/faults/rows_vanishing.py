"""Row 24: topics that vanish while everything runs."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from threading import Event

import orjson
from accounting import sum_problems
from harness import Run, new_broker, row
from rows_topics import check_counts, counted_once, replay
from system import BEFORE_NEW_YEAR, System, users_in_bucketed
from topics_on_broker import Record
from verdict import run_counter
from worker import Worker

JUNK = b"no frame"
JUNK_EVERY = 20
RATE = 300  # frames a second
TEXT = b"x" * 2_000  # otherwise pipes would hold the frames of a minute


@row(24, "`counts`, `bucketed` and `rejected` deleted, the broker emptied, while all run")
def topics_vanish(run: Run) -> None:
    run.side_by_side({"counts": counts_vanish, "bucketed": bucketed_vanishes, "broker": broker_is_emptied})


def counts_vanish(run: Run) -> None:
    """All that is held is published again, and what comes meanwhile."""
    frames = run.sample(run.scale(3_000, 20_000))
    half = len(frames) // 2
    run.inject()
    with run.system() as system:
        _, counter = counted_once(run, system, frames[:half])
        counts = system.config.topics.counts.name
        system.admin.delete_topics([counts])
        producer = system.start_producer(frames[half:], rate=half / run.scale(8, 40))
        expect_created_again(run, system, counter, counts)
        system.until(says(counter, "publishing all counts again"), "counts to be published again")
        run.expect(producer.wait(120) == 0, f"producer failed: {producer.complaints}")
        system.until_caught_up()
        run.verify(system, frames)
        settings = system.settings(counts)
        run.expect(settings["cleanup.policy"] == "compact", f"counts have other settings than configured: {settings}")


def bucketed_vanishes(run: Run) -> None:
    """Frames are read again from the last commit; the counts are those of the new topic."""
    over = Event()
    run.inject()
    run.inject()
    with run.system(behind=False) as system:  # the tail of feed is told by offsets of one partition
        topics = system.config.topics
        bucketer, counter = system.start_bucketer(), system.start_counter()
        producer = system.start("producer", "-", "--rate", str(RATE), feed=numbered(over))
        system.until(lambda: system.written(topics.bucketed.name) > 0, "frames to be bucketed")
        run.pause(0, 3)
        system.admin.delete_topics([topics.bucketed.name, topics.rejected.name])
        system.until(says(bucketer, "reading again from the last commit"), "bucketer to say it")
        committed = system.committed(system.config.bucketer.group, topics.feed.name)[0]
        system.until(lambda: noticed(counter, topics.bucketed.name), "counter to say it")
        expect_created_again(run, system, bucketer, topics.bucketed.name, topics.rejected.name)
        run.pause(1, run.scale(2, 10))
        over.set()
        run.expect(producer.wait(120) == 0, f"producer failed: {producer.complaints}")
        system.until_caught_up()
        for worker in system.end_all():
            run.expect(worker.exit_code == 0, f"ended with {worker.exit_code}: {worker.last_words()}")
        records = system.read(topics.bucketed.name)
        counter = run_counter(system, system.state)
        check_counts(run, system, counter.counts(), records, "live")
        # The dead letters from before are gone with their topic.
        run.problems += sum_problems(system, counter, all_letters=False)
        check_tail(run, system, committed, records)


def broker_is_emptied(run: Run) -> None:
    """A broker comes back without anything: what is sent from then on is counted, and nothing else."""
    before, after = (run.sample(run.scale(2_000, 10_000)) for _ in range(2))
    run.inject()
    with new_broker(run.directory / "kafka") as kafka, run.system(broker=kafka.bootstrap_servers) as system:
        bucketer, counter = counted_once(run, system, before)
        kafka.stop()
        shutil.rmtree(kafka.data)
        system.backlog = []
        kafka.start()
        topics = system.config.topics
        for name in (topics.feed.name, topics.bucketed.name, topics.rejected.name):
            system.until(there(system, name), f"{name} to be there again")
        expect_created_again(run, system, counter, topics.counts.name)
        expect_created_again(run, system, bucketer)
        replay(run, system, after)
        system.until_caught_up()
        run.verify(system, after)


def numbered(over: Event) -> Iterator[bytes]:
    """Frames of a user each, so that none that is missing looks like another one; some are none."""
    for number in count():
        if over.is_set():
            return
        seconds = BEFORE_NEW_YEAR + number // RATE
        yield b'{"uid":"user %d","ts":%d,"text":"%b"}' % (number, seconds, TEXT) if number % JUNK_EVERY else JUNK


def check_tail(run: Run, system: System, committed: int, records: Sequence[Record]) -> None:
    """The new topics hold what was made from the frames that were not committed by then, without a gap."""
    users = set().union(*users_in_bucketed(records).values())
    rejected = {int(record.headers["offset"]) for record in system.read(system.config.topics.rejected.name)}
    feed = system.read(system.config.topics.feed.name)
    kept = {r.offset for r in feed if (r.offset in rejected if r.value == JUNK else _uid(r) in users)}
    tail = {record.offset for record in feed if record.offset >= min([committed, *kept])}
    run.expect(len(tail) > 0, "all frames were committed before the topics vanished")
    run.expect(tail == kept, f"of the frames from {min(tail)} on, {len(tail - kept)} are in no topic")
    run.lost += len(tail - kept)
    run.frames += len(tail)


def _uid(record: Record) -> str:
    uid: str = orjson.loads(record.value or b"")["uid"]
    return uid


def expect_created_again(run: Run, system: System, worker: Worker, *topics: str) -> None:
    """The topics are there again, and the worker has said of one at least that it is gone."""
    for name in topics:
        system.until(there(system, name), f"{name} to be there again")
    # Of several processes, each may find that another one was faster.
    said = ("created again as configured", "deleted and recreated", "no topic")
    system.until(lambda: any(text in worker.complaints for text in said), f"{worker.name} to say it")
    run.expect("Traceback" not in worker.complaints, worker.complaints[-800:])


def there(system: System, topic: str) -> Callable[[], bool]:
    return lambda: system.described(topic) is not None


def says(worker: Worker, text: str) -> Callable[[], bool]:
    return lambda: text in worker.complaints


def noticed(counter: Worker, topic: str) -> bool:
    """Whether a report gave a topic that is gone no lag, or the counter found that another process was faster."""
    no_lag = any(topic in report["missing"] and report["lag"] is None for _, report in counter.reports())
    return no_lag or "counted from another topic" in counter.complaints or "recreated" in counter.complaints
