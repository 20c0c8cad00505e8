"""A month of 10,000,000 distinct users: a ledger with its state on disk, and no broker.

    python bench/month.py [USERS]                    counted exactly: memory, CPU, disk
    python bench/month.py [USERS] --estimates 5      estimated, with so many sets of users: the sketch, and its errors

Records come as in `bucketed`, 100,000 users in each minute, with a save after each minute. All of an exact month stays
in memory, and counter.uids_in_memory_max is set to hold it and two minutes.
"""

import argparse
import math
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from unique_users.aggregation.bucket_users import Origin  # noqa: E402
from unique_users.aggregation.counts import Count, Estimate  # noqa: E402
from unique_users.clients.protocols import Batch  # noqa: E402
from unique_users.counter.partition import CountedPartition  # noqa: E402
from unique_users.counter.publish_keep import PublishKeep  # noqa: E402
from unique_users.event_time.buckets import Bucket, Calendar  # noqa: E402
from unique_users.event_time.rollup import Rollup  # noqa: E402
from unique_users.state.store import Store  # noqa: E402

USERS = 10_000_000
USERS_A_MINUTE = 100_000
RECORDS = 1_000  # in a batch
START = 1_704_067_200  # 2024-01-01T00:00:00Z
ORIGIN = Origin("bucketed", "", 0, 1)


class Figures(NamedTuple):
    """What counting a month took. `before_bytes` is the memory of the process before it; bytes are of the largest."""

    users: Count
    peak_bytes: int
    before_bytes: int
    cpu_seconds: float
    disk_bytes: int
    sketch_bytes: int  # 0 when the month is exact


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("users", type=int, nargs="?", default=USERS)
    parser.add_argument("--estimates", type=int, metavar="SETS", default=0)
    arguments = parser.parse_args()
    users = arguments.users
    if not arguments.estimates:
        figures = count(users, 0, [])
        print(f"a month of {figures.users:,} users: {'exact' if figures.users == users else 'WRONG'}")
        show(figures, users)
        return
    errors = []
    for number in range(arguments.estimates):
        figures = count(users, number, ["month"])
        estimate = figures.users
        assert isinstance(estimate, Estimate)
        errors.append(estimate.unique_users / users - 1)
        held = "hold" if estimate.lower <= users <= estimate.upper else "do not hold"
        print(
            f"a month of {users:,} users, estimated: {estimate.unique_users:,} ({errors[-1]:+.2%}), its bounds {held}"
        )
        show(figures, users)
    print(f"rms error over {len(errors)} sets: {math.sqrt(sum(error**2 for error in errors) / len(errors)):.2%}")


def show(figures: Figures, users: int) -> None:
    """Print what it took."""
    memory = f"{figures.peak_bytes / 1e6:,.0f} MB ({figures.before_bytes / 1e6:.0f} before it)"
    print(f"  {memory}, {figures.cpu_seconds / users * 1e6:.1f} µs of CPU for each user,", end=" ")
    print(f"{figures.disk_bytes / 1e6:,.0f} MB on disk, {figures.sketch_bytes:,} bytes of them the month's sketch")


def count(users: int, number: int, estimates: Sequence[str]) -> Figures:
    """Count a month of these users; those of another number are others."""
    month = Bucket("month", START)
    process = psutil.Process()
    before, peak = process.memory_info().rss, 0
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory), ORIGIN)
        held = 2 * USERS_A_MINUTE + (0 if estimates else users)
        rollup = Rollup(Calendar(), ["month"], estimates)
        ledger = CountedPartition(store, ORIGIN, rollup, 0, held, PublishKeep({}, 0, rollup.calendar))
        started = time.process_time()
        for first in range(0, users, RECORDS):
            ledger.add(batch(first, number * users, ledger.position))
            if (first + RECORDS) % USERS_A_MINUTE == 0:
                ledger.save()
                peak = max(peak, process.memory_info().rss)
        seconds = time.process_time() - started
        counted = ledger.count(month)
        ledger.close()
        with closing(sqlite3.connect(store.path)) as db:
            (sketch_bytes,) = db.execute("SELECT coalesce(sum(length(sketch)), 0) FROM sketches").fetchone()
        return Figures(counted, peak, before, seconds, store.path.stat().st_size, sketch_bytes)


def batch(first: int, skipped: int, offset: int) -> Batch:
    """Records of users that nobody has seen; each uid is 19 hex digits."""
    ts = START + first // USERS_A_MINUTE * 60
    begin = skipped + first + 1
    uids = (number * 0xB5AD4ECEDA1CE2A9D1B % (1 << 76) for number in range(begin, begin + RECORDS))
    values = [b'{"uid":"%019x","ts":%d}' % (uid, ts) for uid in uids]
    return Batch(0, [b"%d" % ts] * RECORDS, values, [0] * RECORDS, range(offset, offset + RECORDS))


if __name__ == "__main__":
    main()
