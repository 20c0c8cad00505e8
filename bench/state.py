"""Time the counter's state: a save of 60,000 new users, opening a day at 100 frames a second, holding it, many saves.

python bench/state.py
"""

import resource
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from unique_users.aggregation.bucket_users import BucketUsers, Origin  # noqa: E402
from unique_users.aggregation.counts import users_in  # noqa: E402
from unique_users.clients.protocols import Batch  # noqa: E402
from unique_users.counter.partition import CountedPartition  # noqa: E402
from unique_users.counter.publish_keep import PublishKeep  # noqa: E402
from unique_users.event_time.buckets import Bucket, Calendar  # noqa: E402
from unique_users.event_time.rollup import Rollup  # noqa: E402
from unique_users.state.store import Store  # noqa: E402

NEW_USERS = 60_000
MINUTES = 1_440
USERS_A_MINUTE = 6_000
SAVES_A_MINUTE = 12
ROLLUP = Rollup(Calendar())


def main() -> None:
    """Print the figures."""
    random = Random(1)
    pool = [f"{random.getrandbits(76):019x}" for _ in range(500_000)]
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory), Origin("new", "", 0, 1))
        cpu_ms = [save(store, minute * 60, pool[:NEW_USERS]) for minute in range(5)]
        store.close()
        print(f"saving {NEW_USERS:,} new users: {median(cpu_ms):.0f} ms of CPU (median of 5)")
        origin = Origin("day", "", 0, 1)
        store = Store(Path(directory), origin)
        a_save = USERS_A_MINUTE // SAVES_A_MINUTE
        for number in range(MINUTES * SAVES_A_MINUTE):
            users = BucketUsers(
                store.counts if number % SAVES_A_MINUTE else {}, lambda _: (), store.load_sketch, ROLLUP
            )
            first = number * a_save % (len(pool) - a_save)
            save(store, number // SAVES_A_MINUTE * 60, pool[first : first + a_save], users)
        store.close()
        entries = MINUTES * USERS_A_MINUTE
        size = store.path.stat().st_size
        print(f"a day of {entries:,} entries: {size / 1e6:.0f} MB, {size / entries:.1f} bytes for each")
        started = time.monotonic()
        Store(Path(directory), origin).close()
        print(f"opening it: {time.monotonic() - started:.2f} s")
        print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
        for minutes in (60, MINUTES):
            cost = second(Path(directory), minutes)
            print(f"a second's work of a counter that holds {minutes} minutes: {cost:.2f} ms")
        many_saves(Path(directory), pool)


def many_saves(directory: Path, pool: list[str]) -> None:
    """Print what a bucket costs that is saved each second for an hour, with 10 new users each time."""
    store = Store(directory, Origin("many", "", 0, 1))
    cpu_ms = [save(store, 0, pool[first : first + 10]) for first in range(0, 36_000, 10)]
    started = time.process_time()
    store.load(Bucket("minute", 0))
    loading = (time.process_time() - started) * 1000
    store.close()
    size = store.path.stat().st_size
    print(f"3,600 saves of 10 users in one bucket: {sum(cpu_ms) / 3_600:.2f} ms of CPU each, {size / 1e6:.1f} MB")
    print(f"loading that bucket: {loading:.0f} ms")


def second(directory: Path, minutes: int) -> float:
    """CPU in ms for what a counter does each second besides reading: count, save, choose what to publish and report."""
    store = Store(directory, Origin(f"held{minutes}", "", 0, 1))
    forever = PublishKeep({}, 0, ROLLUP.calendar)
    ledger = CountedPartition(store, Origin("held", "", 0, 1), ROLLUP, 2 * 86_400, 2_000_000, forever)
    times = []
    for number in range(minutes + 20):
        bucket = number * 60 if number < minutes else (minutes - 1) * 60
        values = [b'{"uid":"%d-%d","ts":%d}' % (number, user, bucket) for user in range(1_000)]
        batch = Batch(0, [b"%d" % bucket] * 1_000, values, [0] * 1_000, range(ledger.position, ledger.position + 1_000))
        started = time.process_time()
        ledger.add(batch)
        ledger.save()
        ledger.take_unpublished()
        ledger.drop_old()
        for start in ledger.new:
            ledger.count(start)
        ledger.new.clear()
        times.append((time.process_time() - started) * 1000)
    ledger.close()
    return median(times[minutes:])


def save(store: Store, bucket: int, uids: list[str], users: BucketUsers | None = None) -> float:
    """Add users to a bucket and save them; return the CPU time in ms."""
    users = users or BucketUsers({}, lambda _: (), store.load_sketch, ROLLUP)
    users.add(bucket, uids)
    started = time.process_time()
    minute = Bucket("minute", bucket)
    counts = {minute: users_in(store.counts.get(minute, 0)) + len(uids)}
    store.save(users.unsaved(), {}, counts, (store.next_offset or 0) + len(uids))
    return (time.process_time() - started) * 1000


if __name__ == "__main__":
    main()
