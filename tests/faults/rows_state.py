"""Rows 9 and 10: a full disk, and a state that is damaged or not the right one."""

import shutil
import sqlite3
import time
from pathlib import Path

from damage import flip, flip_in_process
from harness import Run, row
from system import System, users_in_bucketed
from verdict import expected_counts, with_closed

from unique_users.aggregation.bucket_users import Origin
from unique_users.aggregation.counts import Count
from unique_users.event_time.buckets import Bucket
from unique_users.messages.frame_totals import FrameTotals
from unique_users.queries.recount import Recount, recount
from unique_users.state.store import Store


@row(9, "disk full for the state")
def disk_full(run: Run) -> None:
    frames = run.sample(run.scale(5_000, 30_000))
    with run.system() as system:
        run.expect(system.start_producer(frames).wait() == 0, "producer failed")
        bucketer = system.start_bucketer()
        system.until_bucketed()
        bucketer.end()
        # Small fetches and a save after each: many saves on the way to the limit, on a fast machine too.
        small = ["counter.save_seconds=0.001", "counter.publish_seconds=0.001"]
        if system.config.client == "kafka-python":
            small += ["kafka.max_poll_records=200"]
        # A uid of 76 random bits takes 9.5 bytes however it is packed, and a save writes several pages of 4 KB, so more
        # is written than any of these. SQLite needs 32 KB beside the file to begin.
        truth = recount(frames, system.config, int(time.time() * 1000))
        whole = 9 * sum(map(len, truth.users.values()))
        limits = sorted(40_000 + run.random.randrange(whole // 3) for _ in range(run.scale(3, 8)))
        for limit in limits:
            before = system.saved_offset()
            counter = system.start_counter(settings=small, fault=["file_bytes", str(limit)])
            code = counter.wait(60)
            run.inject()
            errors = [line.text for line in counter.said if line.text.startswith("error:")]
            run.expect(code == 1, f"at {limit} bytes it ended with {code}: {counter.complaints}")
            run.expect(
                len(errors) == 1 and "the last save is still valid" in errors[0], f"it said {counter.complaints}"
            )
            run.expect(system.saved_offset() >= before, f"the saved position went back from {before}")
            check_saved_state(run, system)
        system.start_counter(settings=small)
        system.until_caught_up()
        run.verify(system, frames)


def check_saved_state(run: Run, system: System) -> None:
    """The state left behind opens, and holds exactly what was in the topic up to its position."""
    if not system.state_file().exists():
        return
    copy = system.directory / "checked"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(system.state, copy)
    db = sqlite3.connect(copy / system.state_file().name)
    begun = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    origin = db.execute("SELECT * FROM origin").fetchone() if begun else None
    db.close()
    if origin is None:
        return
    store = Store(copy, Origin(*origin))
    users = users_in_bucketed(system.read(system.config.topics.bucketed.name)[: store.next_offset or 0])
    expected = expected_counts(system, Recount(users, FrameTotals()))
    run.expect(store.counts == expected, "the saved counts are not those of the position")
    minutes = {Bucket("minute", start): found for start, found in users.items()}
    run.expect(
        all(set(store.load(m)) == u for m, u in minutes.items()), "the saved users are not those of the position"
    )
    store.close()


@row(10, "state damaged, truncated, newer, of another topic")
def state_damaged(run: Run) -> None:
    flip_in_process(run, run.scale(200, 1_000))
    frames = run.sample(run.scale(4_000, 20_000))
    with run.system() as system:
        run.expect(system.start_producer(frames).wait() == 0, "producer failed")
        bucketer, counter = system.start_bucketer(), system.start_counter()
        system.until_caught_up()
        bucketer.end()
        counter.end()
        truth = run.verify(system, frames)
        expected = expected_counts(system, truth)
        whole = system.directory / "whole"
        shutil.copytree(system.state, whole)
        for number in range(run.scale(3, 10)):
            flip(system.state_file(), run.random, number)
            count_damaged(run, system, expected)
            restore(system.state, whole)
        newer(run, system)
        restore(system.state, whole)
        of_another_topic(run, system, expected)


def count_damaged(run: Run, system: System, expected: dict[Bucket, Count]) -> None:
    """Either the damage is noticed and said, or the counts are right."""
    run.inject()
    before = system.state_file().read_bytes()
    counter = system.start("counter", "--until-caught-up", "--format", "json")
    code = counter.wait(60)
    if code == 0:
        counts = with_closed(system, expected, counter.counts())
        run.expect(counts == expected, "a damaged state gave wrong counts, and nobody noticed")
    else:
        errors = [line.text for line in counter.said if line.text.startswith("error:")]
        run.expect(code == 1 and len(errors) == 1 and "Traceback" not in counter.complaints, counter.complaints)
        run.expect(system.state_file().read_bytes() == before, "a damaged state was overwritten")


def newer(run: Run, system: System) -> None:
    run.inject()
    db = sqlite3.connect(system.state_file())
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = system.state_file().read_bytes()
    counter = system.start("counter", "--until-caught-up")
    run.expect(counter.wait(60) == 1, f"a newer state: ended with {counter.exit_code}")
    run.expect("newer version" in counter.complaints and "99" in counter.complaints, counter.complaints)
    run.expect(system.state_file().read_bytes() == before, "a newer state was overwritten")


def of_another_topic(run: Run, system: System, expected: dict[Bucket, Count]) -> None:
    """The topic of the state's name was recreated, and holds the same stream once more."""
    run.inject()
    system.recreate(system.config.topics.bucketed.name)
    again = ["bucketer.group=" + system.config.bucketer.group + "-again"]
    code = system.start("bucketer", "--until-caught-up", settings=again).wait(120)
    run.expect(code == 0, f"bucketer ended with {code}")
    counter = system.start("counter", "--until-caught-up", "--format", "json")
    run.expect(counter.wait(60) == 0, f"ended with {counter.exit_code}: {counter.complaints}")
    run.expect("counted from another topic" in counter.complaints, counter.complaints)
    run.expect(with_closed(system, expected, counter.counts()) == expected, "state of another topic: wrong counts")


def restore(state: Path, whole: Path) -> None:
    shutil.rmtree(state)
    shutil.copytree(whole, state)
