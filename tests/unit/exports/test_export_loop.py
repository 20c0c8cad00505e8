"""The loop of the export on a fake broker and a table in memory that fails when it is told to."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import pytest
from fakes import FakeAdmin, FakeClock, FakeConsumer, FakeKafka, FakeRecordLookup, FakeStop

from unique_users.aggregation.counts import users_in
from unique_users.errors import TopicError
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.exports.loop import Connections, Export
from unique_users.exports.postgres import Kept, PostgresAwayError, Table
from unique_users.exports.progress import Progress
from unique_users.exports.rows import Changes, Row
from unique_users.messages.counts import encode_count

MINUTE = 1_704_067_200
FIRST, SECOND = Bucket("minute", MINUTE), Bucket("minute", MINUTE + 60)
FULL = "could not extend file: No space left on device"


class Database:
    """What is committed. It refuses rows so often, and progress so often, before it takes some."""

    def __init__(self) -> None:
        self.rows: dict[Bucket, Row] = {}
        self.progress: bytes | None = None
        self.refuse_rows = 0
        self.refuse_progress = 0
        self.seconds_ago = 0.0
        self.writes = 0
        self.on_write: Callable[[int], None] = lambda _: None  # with how often progress was written

    def counted(self) -> dict[Bucket, int]:
        return {bucket: users_in(row.counted.total) for bucket, row in self.rows.items()}


class TableInMemory:
    """As exports.postgres.Table, for one export at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def kept(self) -> Kept | None:
        if self._database.progress is None:
            return None
        return Kept(msgspec.json.decode(self._database.progress, type=Progress), self._database.seconds_ago)

    @contextmanager
    def change(self) -> Iterator[None]:
        before = dict(self._database.rows), self._database.progress
        try:
            yield
        except BaseException:
            self._database.rows, self._database.progress = before
            raise

    def rows(self, buckets: Iterable[Bucket]) -> dict[Bucket, Row]:
        return {bucket: self._database.rows[bucket] for bucket in buckets if bucket in self._database.rows}

    def page(self, after: Bucket, rows_max: int) -> dict[Bucket, Row]:
        asked = [bucket for bucket in sorted(self._database.rows) if bucket > after]
        return {bucket: self._database.rows[bucket] for bucket in asked[:rows_max]}

    def write(self, changes: Changes, progress: Progress) -> None:
        database = self._database
        if changes.written and database.refuse_rows:
            database.refuse_rows -= 1
            raise PostgresAwayError(FULL)
        database.rows.update(changes.written)
        for bucket in changes.deleted:
            del database.rows[bucket]
        if database.refuse_progress:
            database.refuse_progress -= 1
            raise PostgresAwayError(FULL)
        database.progress = msgspec.json.encode(progress)
        database.writes += 1
        database.on_write(database.writes)

    def close(self) -> None:
        pass


class Exporting:
    """A broker, a database, and what is between them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.kafka = FakeKafka(self.clock)
        self.kafka.create("counts", settings={"cleanup.policy": "compact"})
        self.database = Database()

    def publish(self, bucket: Bucket, users: int) -> None:
        key, value = encode_count(bucket, 0, users, Calendar(), generation="20260101T000000Z-aaaaaaaa")
        self.kafka.append("counts", value, key=key)

    def export(self, *, from_start: bool = False) -> None:
        self.follow(FakeStop(self.clock), until_caught_up=True, from_start=from_start)

    def follow(self, stop: FakeStop, *, until_caught_up: bool = False, from_start: bool = False) -> None:
        connections = Connections(
            "counts",
            lambda: cast("Any", FakeConsumer(self.kafka, "counts", None, alone=True)),
            lambda: FakeRecordLookup(self.kafka, "counts"),
            lambda: cast("Any", FakeAdmin(self.kafka)),
            lambda: cast("Table", TableInMemory(self.database)),
        )
        Export(connections, stop, lambda: None, until_caught_up=until_caught_up, from_start=from_start).run()

    def recreate(self) -> None:
        self.kafka.delete("counts")
        self.kafka.create("counts", settings={"cleanup.policy": "compact"})


@pytest.fixture
def exporting() -> Exporting:
    return Exporting()


def test_the_table_has_what_the_topic_holds_and_goes_on(exporting: Exporting) -> None:
    exporting.publish(FIRST, 3)
    exporting.export()
    assert exporting.database.counted() == {FIRST: 3}
    exporting.publish(FIRST, 4)
    exporting.publish(SECOND, 1)
    exporting.export()
    assert exporting.database.counted() == {FIRST: 4, SECOND: 1}


def test_from_start_holds_until_it_is_noted_in_the_table(exporting: Exporting) -> None:
    exporting.publish(FIRST, 3)
    exporting.export()
    exporting.recreate()
    exporting.publish(SECOND, 1)
    with pytest.raises(TopicError):
        exporting.export()
    exporting.database.refuse_progress = 1
    exporting.export(from_start=True)
    assert exporting.database.counted() == {FIRST: 3, SECOND: 1}


def test_rows_of_a_topic_that_is_gone_stay_when_its_successor_is_read_again(exporting: Exporting) -> None:
    exporting.publish(FIRST, 3)
    exporting.export()
    exporting.recreate()
    exporting.publish(SECOND, 1)
    exporting.export(from_start=True)
    exporting.database.seconds_ago = 1_000_000.0
    exporting.export()
    exporting.export(from_start=True)
    assert exporting.database.counted() == {FIRST: 3, SECOND: 1}


def test_a_server_that_connects_but_takes_no_rows_is_one_wait(
    exporting: Exporting, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    exporting.publish(FIRST, 3)
    exporting.database.refuse_rows = 6
    begun = exporting.clock.monotonic()
    exporting.export()
    assert exporting.database.counted() == {FIRST: 3}
    said = [record.getMessage() for record in caplog.records if "PostgreSQL" in record.getMessage()]
    assert said == [f"waiting for PostgreSQL: {FULL} …", "PostgreSQL answers, going on"]
    assert exporting.clock.monotonic() - begun >= 0.5 + 1 + 2 + 5 + 10 + 10, "longer each time"


def test_counts_that_cannot_be_unpacked_are_said_to_be_missing(
    exporting: Exporting, caplog: pytest.LogCaptureFixture
) -> None:
    exporting.kafka.append_unreadable("counts", 2, "unpacks to more than 64 MiB")
    exporting.publish(FIRST, 3)
    exporting.export()
    assert exporting.database.counted() == {FIRST: 3}
    assert "counts-0: skipping offsets 0 to 1: unpacks to more than 64 MiB: the table lacks" in caplog.text


def test_a_topic_that_lost_its_end_and_grew_again_is_read_from_its_start(
    exporting: Exporting, caplog: pytest.LogCaptureFixture
) -> None:
    exporting.publish(FIRST, 3)
    exporting.publish(SECOND, 1)
    exporting.export()
    exporting.kafka.cut_back("counts", 1)
    exporting.publish(FIRST, 5)
    exporting.publish(SECOND, 2)
    exporting.export()
    assert exporting.database.counted() == {FIRST: 5, SECOND: 2}
    assert "'counts' has lost records that were read, or has others in their place" in caplog.text


def test_a_topic_with_another_leader_that_lacks_nothing_is_read_on(
    exporting: Exporting, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    exporting.publish(FIRST, 3)
    exporting.export()
    for users in (4, 5):
        exporting.kafka.cut_back("counts", users - 3)
        exporting.publish(FIRST, users)
        exporting.export()
    assert exporting.database.counted() == {FIRST: 5}
    assert "from its start again" not in caplog.text


@pytest.mark.parametrize("end", [0, 1, 2])
def test_a_topic_that_loses_its_end_under_a_running_export_is_read_again(exporting: Exporting, end: int) -> None:
    exporting.publish(FIRST, 3)
    exporting.publish(SECOND, 1)
    exporting.export()
    stop = FakeStop(exporting.clock)
    wanted = {FIRST: 6, SECOND: 2}
    begun = exporting.database.writes + 1

    def turn(number: int) -> None:
        if number == begun:
            exporting.kafka.cut_back("counts", end)
            exporting.publish(SECOND, 2)
            exporting.publish(FIRST, 5)
            exporting.publish(FIRST, 6)
        if number == begun + 20 or exporting.database.counted() == wanted:
            stop.request()

    exporting.database.on_write = turn
    exporting.follow(stop)
    assert exporting.database.counted() == wanted
