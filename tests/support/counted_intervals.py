"""A partition counted in every interval, on a state on disk, and times at which intervals begin."""

from datetime import datetime
from pathlib import Path

from unique_users.aggregation.bucket_users import Origin
from unique_users.aggregation.counts import Count
from unique_users.clients.protocols import Batch
from unique_users.counter.backfill import follow
from unique_users.counter.partition import CountedPartition
from unique_users.counter.publish_keep import PublishKeep
from unique_users.event_time.buckets import INTERVALS, Bucket, Calendar
from unique_users.event_time.rollup import Rollup
from unique_users.state.store import Store

ORIGIN = Origin("bucketed", "an-id", 0, 1)
# Both sides of a clock change, of a half-hour zone's midnight, of a week, a month and a year in these zones.
TIMES = [
    int(datetime.fromisoformat(text).timestamp())
    for text in (
        "2016-10-29T22:00:00Z", "2016-10-30T00:59:00Z", "2016-10-30T01:00:00Z", "2016-10-30T18:29:00Z",
        "2016-10-30T18:30:00Z", "2016-10-30T23:00:00Z", "2016-10-31T18:44:00Z", "2016-10-31T22:59:00Z",
        "2016-10-31T23:00:00Z", "2016-11-01T00:00:00Z", "2016-12-31T18:30:00Z", "2016-12-31T23:00:00Z",
        "2017-01-01T00:00:00Z",
    )
]  # fmt: skip
ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata"]
CRASH, SAVE = "CRASH", "SAVE"


class Counted:
    """A ledger on a state on disk that reads `log` on from where it is."""

    def __init__(self, directory: Path, uids_max: int) -> None:
        self.directory, self.uids_max = directory, uids_max
        self.log: list[tuple[int, set[str]]] = []
        self.rollup = Rollup(Calendar(), INTERVALS)
        self.open()

    def open(self) -> None:
        store = Store(self.directory, ORIGIN)
        follow(store, self.rollup)
        self.ledger = CountedPartition(store, ORIGIN, self.rollup, 0, self.uids_max, PublishKeep({}, 0, Calendar()))

    def read_on(self) -> None:
        for offset in range(self.ledger.position, len(self.log)):
            minute, uids = self.log[offset]
            value = b'{"uids":[%b]}' % b",".join(b'"%b"' % uid.encode() for uid in uids)
            self.ledger.add(Batch(0, [b"%d" % minute], [value], [0], [offset]))

    def counts(self) -> dict[Bucket, Count]:
        return {bucket: self.ledger.count(bucket) for bucket in self.ledger.buckets()}
