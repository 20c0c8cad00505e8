"""The rows of an exported table beside what a reader of the whole topic says, whatever interrupts the export."""

from random import Random

import msgspec
import pytest

from unique_users.aggregation.completeness import Gap, Why
from unique_users.aggregation.counts import users_in
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.exports.progress import Progress
from unique_users.exports.rows import Record, Row, Rows, buckets_of
from unique_users.messages.counts import encode_count, encode_gaps, encode_removed, key_of
from unique_users.messages.merged_counts import PublishedBucket, merged_buckets

OLD, NEW, OTHER = "20260101T000000Z-aaaaaaaa", "20260201T000000Z-aaaaaaaa", "20260301T000000Z-bbbbbbbb"
MINUTE = 1_704_067_200
FIRST, SECOND = Bucket("minute", MINUTE), Bucket("minute", MINUTE + 60)
CALENDAR = Calendar()
PAGE = 3


class Table:
    """A table in memory, and who fills it from one partition of the topic."""

    def __init__(self, log: list[Record]) -> None:
        self.log = log
        self.rows: dict[Bucket, Row] = {}
        self.progress = Progress("counts", "id", {}, until={0: len(log)})

    def read(self, records_max: int = 1_000_000, *, restart: bool = False) -> None:
        """Read on in the log, in transactions of at most so many records; with `restart`, by a new process each."""
        rows = Rows(self.progress)
        while (at := rows.progress.offsets.get(0, 0)) < len(self.log) or rows.progress.stale or rows.progress.until:
            if restart:
                rows = Rows(msgspec.json.decode(msgspec.json.encode(self.progress), type=Progress))
            records = self.log[at : at + records_max]
            stored = {bucket: self.rows[bucket] for bucket in buckets_of(records) if bucket in self.rows}
            rows.reached({0: at + len(records)}, {})
            self._write(rows.take(records, stored))
            self.progress = rows.progress
            until = rows.progress.until
            if rows.progress.stale if until is None else rows.progress.offsets[0] >= until[0]:
                self._look_at_all(rows)
            self.progress = rows.progress

    def read_again(self, *, keeps_unseen: bool = False) -> None:
        until = {0: len(self.log)}
        self.progress = self.progress.read_again("counts", "id", until, keeps_unseen=keeps_unseen)
        self.read(2)

    def _look_at_all(self, rows: Rows) -> None:
        asked = sorted(self.rows)
        for begin in range(0, len(asked), PAGE):
            self._write(rows.look_again({bucket: self.rows[bucket] for bucket in asked[begin : begin + PAGE]}))
        rows.all_looked_at()

    def _write(self, changes: tuple[dict[Bucket, Row], list[Bucket]]) -> None:
        written, deleted = changes
        self.rows.update(written)
        for bucket in deleted:
            del self.rows[bucket]

    def counted(self) -> dict[Bucket, PublishedBucket]:
        return {bucket: row.counted for bucket, row in self.rows.items()}


def count(bucket: Bucket, users: int, partition: int = 0, generation: str = OLD, *why: Why) -> Record:
    return encode_count(bucket, partition, users, CALENDAR, generation=generation, why=why)


def tombstone(bucket: Bucket, partition: int = 0) -> Record:
    return key_of(bucket, partition), None


def merged(log: list[Record]) -> dict[Bucket, PublishedBucket]:
    return merged_buckets([value for _, value in log], [key for key, _ in log])


def random_log(random: Random) -> list[Record]:
    """Counts of two generations of one topic in three partitions, some taken back, some with marks, and gaps."""
    log: list[Record] = []
    buckets = [Bucket(interval, MINUTE + 3_600 * n) for interval in ("minute", "hour") for n in range(5)]
    for _ in range(random.randrange(5, 60)):
        bucket, partition, generation = random.choice(buckets), random.randrange(3), random.choice([OLD, NEW])
        kind = random.random()
        if kind < 0.75:
            why = random.sample([*Why][:3], random.randrange(2))
            log.append(count(bucket, random.randrange(1, 50), partition, generation, *why))
        elif kind < 0.9:
            log.append(tombstone(bucket, partition))
        else:
            gaps = [Gap("", MINUTE, MINUTE + random.randrange(1, 9_000), random.choice([*Why][:5]))]
            log.append(encode_gaps(partition, gaps if random.random() < 0.7 else [], generation))
    return log


@pytest.mark.parametrize("seed", range(200))
def test_however_the_topic_is_read_the_rows_are_what_a_reader_of_all_of_it_says(seed: int) -> None:
    random = Random(seed)
    log = random_log(random)
    begun = random.randrange(len(log) + 1)
    table = Table(log[:begun])
    table.read(random.randrange(1, 9), restart=random.random() < 0.5)
    assert table.counted() == merged(log[:begun])
    table.log = log
    table.read(random.randrange(1, 9), restart=random.random() < 0.5)
    assert table.counted() == merged(log)
    table.read_again()
    assert table.counted() == merged(log)


def test_reading_again_from_the_start_never_shows_an_earlier_number() -> None:
    table = Table([count(FIRST, 3), count(FIRST, 5), count(FIRST, 9)])
    table.read()
    table.progress = table.progress.read_again("counts", "id", {0: 3}, keeps_unseen=False)
    rows = Rows(table.progress)
    for at, record in enumerate(table.log):
        rows.reached({0: at + 1}, {})
        table._write(rows.take([record], table.rows))
        assert table.counted() == {FIRST: PublishedBucket(9)}


def test_a_count_that_is_taken_back_goes_down_in_the_table() -> None:
    """A state was lost, and its log with it: the next one counts less, and says so by a tombstone."""
    table = Table([count(FIRST, 9), count(SECOND, 9)])
    table.read()
    table.log += [tombstone(FIRST), count(FIRST, 4, 0, NEW), tombstone(SECOND)]
    table.read()
    assert table.counted() == {FIRST: PublishedBucket(4)}


def test_what_was_taken_back_while_nobody_read_leaves_with_the_next_reading() -> None:
    table = Table([count(FIRST, 9), count(SECOND, 9)])
    table.read()
    table.log = [count(FIRST, 4, 0, NEW)]  # compacted: the tombstones are gone, too
    table.read_again()
    assert table.counted() == {FIRST: PublishedBucket(4)}


def test_a_count_that_leaves_the_topic_for_its_age_stays_in_the_table() -> None:
    gone = encode_removed(0, [Gap("minute", 0, MINUTE + 60, Why.COUNT_REMOVED)], OLD)
    table = Table([count(FIRST, 9), count(FIRST, 2, 1), count(SECOND, 5)])
    table.read()
    table.log += [gone, tombstone(FIRST)]
    table.read()
    assert table.counted() == {FIRST: PublishedBucket(11), SECOND: PublishedBucket(5)}
    table.log = [gone, count(FIRST, 2, 1), count(SECOND, 5)]
    table.read_again()
    assert table.counted() == {FIRST: PublishedBucket(11), SECOND: PublishedBucket(5)}
    late = Table(table.log)
    late.read()
    assert late.counted()[FIRST] == PublishedBucket(2, (Why.COUNT_REMOVED,)), "who comes later knows no better"


def test_rows_of_a_topic_that_was_recreated_stay_until_the_new_one_has_their_bucket() -> None:
    table = Table([count(FIRST, 9), count(SECOND, 7)])
    table.read()
    table.log += [count(SECOND, 1, 0, OTHER)]
    table.read()
    assert table.counted() == {FIRST: PublishedBucket(9), SECOND: PublishedBucket(1)}
    assert merged(table.log) == {SECOND: PublishedBucket(1)}


def test_a_mark_stays_until_the_last_record_of_its_partition_has_none() -> None:
    table = Table([count(FIRST, 9, 0, OLD, Why.STATE_LOST)])
    table.read()
    assert table.counted() == {FIRST: PublishedBucket(9, (Why.STATE_LOST,))}
    table.log.append(count(FIRST, 8, 0, NEW, Why.STATE_LOST))
    table.read()
    assert table.counted() == {FIRST: PublishedBucket(9, (Why.STATE_LOST,))}
    table.log.append(count(FIRST, 9, 0, NEW))
    table.read()
    assert table.counted() == {FIRST: PublishedBucket(9)}


def test_rows_of_a_reading_that_keeps_what_it_does_not_see_stay_in_every_later_one() -> None:
    table = Table([count(FIRST, 9), count(SECOND, 7)])
    table.read()
    table.log = [count(SECOND, 8)]
    table.read_again(keeps_unseen=True)
    assert {bucket: users_in(row.total) for bucket, row in table.counted().items()} == {FIRST: 9, SECOND: 8}
    table.read_again()
    assert {bucket: users_in(row.total) for bucket, row in table.counted().items()} == {FIRST: 9, SECOND: 8}
    table.log = [count(FIRST, 1, 1)]
    table.read_again()
    assert {bucket: users_in(row.total) for bucket, row in table.counted().items()} == {FIRST: 1}


def left_for_its_age(partition: int, generation: str = OLD) -> Record:
    return encode_removed(partition, [Gap("minute", 0, MINUTE + 60, Why.COUNT_REMOVED)], generation)


def test_a_share_that_left_the_topic_for_its_age_is_not_lost_by_what_comes_after_a_reading_from_the_start() -> None:
    table = Table([count(FIRST, 9), count(FIRST, 2, 1)])
    table.read()
    table.log += [left_for_its_age(0), tombstone(FIRST)]
    table.read()
    table.log = [count(FIRST, 2, 1), left_for_its_age(0)]
    table.read_again()
    assert table.counted() == {FIRST: PublishedBucket(11)}
    table.log.append(encode_gaps(1, [Gap("", 0, 60, Why.LOG_CUT_BACK)], OLD))  # all rows are looked at again
    table.read()
    assert table.counted() == {FIRST: PublishedBucket(11)}
    table.log.append(count(FIRST, 3, 1))
    table.read()
    assert table.counted() == {FIRST: PublishedBucket(12)}
    table.log.append(tombstone(FIRST, 1))
    table.read()
    assert table.counted() == {FIRST: PublishedBucket(9)}
    table.log = [left_for_its_age(0), count(SECOND, 1)]
    table.read_again()
    assert table.counted() == {FIRST: PublishedBucket(9), SECOND: PublishedBucket(1)}
    table.log.append(count(FIRST, 5, 1))
    table.read()
    assert table.counted() == {FIRST: PublishedBucket(14), SECOND: PublishedBucket(1)}


def test_what_a_former_topic_removed_for_its_age_does_not_keep_a_count_of_its_successor() -> None:
    later = "20260401T000000Z-bbbbbbbb"
    table = Table([left_for_its_age(0)])
    table.read()
    table.log += [count(FIRST, 9, 0, OTHER), tombstone(FIRST), count(FIRST, 4, 0, later)]
    table.read(1)
    assert table.counted() == merged(table.log) == {FIRST: PublishedBucket(4)}


def test_a_topic_that_removes_its_predecessors_counts_for_their_age_takes_none_from_the_table() -> None:
    table = Table([count(FIRST, 9)])
    table.read()
    table.log += [count(SECOND, 7, 0, OTHER), left_for_its_age(0, OTHER), tombstone(FIRST)]
    table.read(1)
    assert table.counted() == {FIRST: PublishedBucket(9), SECOND: PublishedBucket(7)}


@pytest.mark.parametrize(
    ("key", "change"),
    [
        (key_of(FIRST, 0), {"unique_users": 10**30}),
        (key_of(FIRST, 0), {"unique_users": -1}),
        (key_of(FIRST, 0), {"at_end": 10**20}),
        (key_of(Bucket("minute", 60 * 10**17), 0), {"timestamp": 60 * 10**17}),
        (key_of(FIRST, 0), {"why": ["\0"]}),
        (key_of(FIRST, 0), {"generation": "\0"}),
        (b"gaps:\xff", {"gaps": []}),
        (b"gaps:\0", {"gaps": []}),
        (b"minute:999999999999999999999999:0", None),
    ],
)
def test_a_record_that_no_counter_writes_does_not_stop_the_export(key: bytes, change: dict[str, object] | None) -> None:
    value = None
    if change is not None:
        value = msgspec.json.encode({**msgspec.json.decode(count(FIRST, 1)[1] or b""), **change})
    table = Table([(key, value), count(SECOND, 7)])
    table.read()
    assert table.counted() == {SECOND: PublishedBucket(7)}
    assert b"\\u0000" not in msgspec.json.encode(table.progress)
    assert all(bucket.start < 2**40 for bucket in buckets_of(table.log))
