"""The memory of a month of 10,000,000 distinct users, counted exactly: a ledger with its state on disk, and no broker.

    python bench/month.py [USERS]

Records come as in `bucketed`, 100,000 users in each minute, with a save after each minute. All of a month stays in
memory, and counter.uids_in_memory_max is set to hold it and two minutes.
"""

import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from unique_users.buckets import Bucket, Calendar  # noqa: E402
from unique_users.cascade import Cascade  # noqa: E402
from unique_users.clients import Batch  # noqa: E402
from unique_users.ledger import Ledger  # noqa: E402
from unique_users.store import Store  # noqa: E402
from unique_users.tally import Origin  # noqa: E402

USERS = 10_000_000
USERS_A_MINUTE = 100_000
RECORDS = 1_000  # in a batch
START = 1_704_067_200  # 2024-01-01T00:00:00Z
ORIGIN = Origin("bucketed", "", 0, 1)


def main() -> None:
    """Print the figures."""
    users = int(sys.argv[1]) if len(sys.argv) > 1 else USERS
    cascade = Cascade(Calendar(), ["month"])
    month = Bucket("month", START)
    process = psutil.Process()
    before, peak = process.memory_info().rss, 0
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory), ORIGIN)
        ledger = Ledger(store, ORIGIN, cascade, 0, users + 2 * USERS_A_MINUTE)
        started = time.process_time()
        for first in range(0, users, RECORDS):
            ledger.add(batch(first, ledger.position))
            if (first + RECORDS) % USERS_A_MINUTE == 0:
                ledger.save()
                peak = max(peak, process.memory_info().rss)
        seconds = time.process_time() - started
        exact = "exact" if ledger.count(month) == users else "WRONG"
        print(f"a month of {ledger.count(month):,} users: {exact}, {peak / 1e6:,.0f} MB ({before / 1e6:.0f} before it)")
        print(f"{seconds / users * 1e6:.1f} µs of CPU for each user, {store.path.stat().st_size / 1e6:,.0f} MB on disk")
        ledger.close()


def batch(first: int, offset: int) -> Batch:
    """Records of users that nobody has seen; each uid is 19 hex digits."""
    ts = START + first // USERS_A_MINUTE * 60
    uids = (number * 0xB5AD4ECEDA1CE2A9D1B % (1 << 76) for number in range(first + 1, first + RECORDS + 1))
    values = [b'{"uid":"%019x","ts":%d}' % (uid, ts) for uid in uids]
    return Batch(0, [b"%d" % ts] * RECORDS, values, [0] * RECORDS, range(offset, offset + RECORDS))


if __name__ == "__main__":
    main()
