"""Row 20: a log that was cut back under those who had read more of it."""

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from broker_copies import copied, put_back
from harness import Run, new_broker, row
from system import BEFORE_NEW_YEAR, System
from verdict import compare, count_once, expected_counts, judge, published_buckets, published_counts
from worker import Worker

from unique_users.aggregation.completeness import Why, why_not_whole
from unique_users.aggregation.counts import Count
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.queries.recount import recount
from unique_users.state.snapshot import SavedState

KEPT, LOST, NEW = 0, 1, 2  # the parts of the stream
STRETCH_SECONDS = 360  # of event time of each part; the new one begins in the middle of the lost one
SESSION_MS = 30_000  # who runs on keeps its partitions while the broker is away


@row(20, "broker restored from an older copy, its log cut back under a newer state, and grown past its old end")
def logs_cut_back(run: Run) -> None:
    cases = {
        "running": partial(restored, running=True, whole=True),
        "away-logs-alone": partial(restored, running=False, whole=False),
    }
    if run.full:
        cases["running-logs-alone"] = partial(restored, running=True, whole=False)
        cases["away"] = partial(restored, running=False, whole=True)
    run.side_by_side(cases)


def restored(run: Run, *, running: bool, whole: bool) -> None:
    """Nothing of the log as it is now is missing, and what may be too high is marked.

    `running`: bucketer and counter run on; otherwise they are away meanwhile. `whole`: the broker goes back as a whole;
    otherwise the logs of `feed` and `bucketed` alone, as after an unclean election, and what was committed stays.
    """
    parts = stream(run)
    # Estimates of buckets that may be too high would show nothing. Of feed, partition 0 goes back, and grows past its
    # old end.
    settings: dict[str, dict[str, Any]] = {"counter": {"estimates": []}}
    if running:
        settings["kafka"] = {"session_timeout_ms": SESSION_MS}
    with (
        new_broker(run.directory / "kafka") as kafka,
        run.system(settings, broker=kafka.bootstrap_servers, behind=False) as system,
    ):
        logs = [system.config.topics.feed.name, system.config.topics.bucketed.name]
        workers = [system.start_bucketer(), system.start_counter()]
        replay(run, system, parts[KEPT])
        system.until_caught_up()
        copy = copied(kafka, run.directory / "copy")
        replay(run, system, parts[LOST])
        system.until_caught_up()
        old_ends = [system.written(log) for log in logs]
        for worker in workers:
            if running:
                worker.freeze()  # so that the log has grown past its old end when they see it again
            else:
                run.expect_end(worker, worker.end())
        run.inject(kill=True)
        kafka.kill()
        put_back(kafka, copy, [] if whole else logs)
        kafka.start()
        replay(run, system, parts[NEW])
        run.expect(system.written(logs[0]) > old_ends[0], "feed did not grow past its old end")
        if running:
            for worker in workers:
                worker.go_on()
        else:
            workers = [system.start_bucketer(), system.start_counter()]
        bucketer, counter = workers
        # What a broker that went back as a whole knows of a group went back, too: who starts then goes on from there.
        for worker in (counter, bucketer) if running or not whole else (counter,):
            run.expect(says_so(system, worker), f"nothing was said: {worker.last_words()}")
        system.until_caught_up()
        check(run, system, [record.value or b"" for record in system.read(logs[0])])


def stream(run: Run) -> list[list[bytes]]:
    """The frames of each part. The new ones are more than were lost."""
    size = run.scale(1_000, 10_000)
    begin = [BEFORE_NEW_YEAR + int(STRETCH_SECONDS * part) for part in (0, 1, 1.5)]
    sizes = size * 2, size, size * 5 // 2
    return [run.sample(n, start=start, seconds=STRETCH_SECONDS) for n, start in zip(sizes, begin, strict=True)]


def replay(run: Run, system: System, frames: Sequence[bytes]) -> None:
    code = system.start_producer(frames).wait(120)
    run.expect(code == 0, f"producer ended with {code}")


def says_so(system: System, worker: Worker) -> bool:
    """Whether it says that it goes back; a bucketer whose records were refused goes back to its commit before it looks.

    In a broker that went back as a whole, that commit is the older one.
    """
    try:
        system.until(lambda: "reading again from" in worker.complaints, "it to be noticed")
    except AssertionError:
        return False
    return True


def check(run: Run, system: System, frames: Sequence[bytes]) -> None:
    """Every user of the log as it is now is counted, and only marked buckets hold others."""
    for worker in system.end_all():
        run.expect(worker.exit_code == 0, f"ended with {worker.exit_code}: {worker.last_words()}")
    truth = recount(frames, system.config, int(time.time() * 1000))
    expected = expected_counts(system, truth)
    # Frames of the lost history were read as well, and those before it may have been read twice.
    run.add(judge(system, truth, views=["rebuilt"], sums=False), len(frames))
    live = count_once(system, system.state)
    published = published_counts(system.read(system.config.topics.counts.name))
    marked = buckets_marked(system, {**expected, **live, **published})
    run.expect(0 < len(expected.keys() & marked) < len(expected), f"of {len(expected)} buckets, marked are {marked}")
    # A counter that has lost its state replaces what holds too much.
    shutil.rmtree(system.state)
    count_once(system, system.state)
    again = published_buckets(system.read(system.config.topics.counts.name))
    run.expect(not any(bucket.why for bucket in again.values()), f"marked though counted anew: {again}")
    lost, extra = compare(expected, {bucket: found.total for bucket, found in again.items()})
    run.lost, run.extra = run.lost + lost, run.extra + extra
    run.expect(not lost and not extra, f"published by a state that began anew: {lost} users lost, {extra} extra")
    for name, counts in {"live": live, "published": published}.items():
        lost, _ = compare(expected, counts)
        _, extra = compare(_without(expected, marked), _without(counts, marked))
        run.lost, run.extra = run.lost + lost, run.extra + extra
        run.expect(not lost and not extra, f"{name}: {lost} users lost, {extra} extra in buckets that are not marked")


def buckets_marked(system: System, buckets: Iterable[Bucket]) -> set[Bucket]:
    """Those that may hold users of the lost history, as the state says."""
    calendar = Calendar(system.config.counter.timezone)
    with SavedState(system.state, system.config.topics.bucketed.name, 0) as saved:
        gaps = saved.facts.gaps
    return {bucket for bucket in buckets if Why.LOG_CUT_BACK in why_not_whole(gaps, bucket, calendar)}


def _without(counts: Mapping[Bucket, Count], marked: set[Bucket]) -> dict[Bucket, Count]:
    return {bucket: count for bucket, count in counts.items() if bucket not in marked}
