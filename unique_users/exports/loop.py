"""Copies `counts` into a table, and follows the topic. Each transaction writes rows and the positions they are from.

1. Connect: the table's own progress says where to go on. Nothing else is remembered, so nothing is lost or repeated
   if this process, PostgreSQL or a broker dies at any moment.
2. Read the topic from there: from its start the first time, and if what has happened since may be gone from it.
3. Take what arrives, and check all rows again if more than their own records changed.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import NamedTuple

from unique_users.clients.protocols import Admin, Batch, Consumer, RecordLookup, TopicState
from unique_users.errors import BrokerAwayError, BrokerError, TopicError
from unique_users.event_time.buckets import Bucket
from unique_users.exports.postgres import OvertakenError, PostgresAwayError, Table
from unique_users.exports.progress import Progress
from unique_users.exports.rows import Record, Rows, buckets_of
from unique_users.exports.same_log import SameLog
from unique_users.queries.same_topic import SameTopic
from unique_users.queries.whole_topic import WholeTopic
from unique_users.runtime.signals import Stop
from unique_users.runtime.timer import Timer
from unique_users.runtime.waits import Wait

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
NOTE_SECONDS = 60.0  # until progress is written although nothing arrived
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)  # between attempts to reach PostgreSQL, the last one over and over
PAGE_ROWS = 2_000
TOMBSTONE_SECONDS = 86_400.0  # how long Kafka keeps a tombstone, if the topic does not say otherwise


class Connections:
    """How an export reaches the topic and the table."""

    def __init__(
        self,
        topic: str,
        new_reader: Callable[[], Consumer],
        new_record_lookup: Callable[[], RecordLookup],
        new_admin: Callable[[], Admin],
        new_table: Callable[[], Table],
    ) -> None:
        self.topic = topic
        self.new_reader = new_reader
        self.new_record_lookup = new_record_lookup
        self.new_admin = new_admin
        self.new_table = new_table


class _Session(NamedTuple):
    """What lives as long as the connections."""

    table: Table
    reader: WholeTopic
    rows: Rows
    same: SameTopic
    log: SameLog


class Export:
    """Runs until a stop is requested, or until everything that the topic held at the start is in the table."""

    def __init__(
        self,
        connections: Connections,
        stop: Stop,
        why_silent: Callable[[], str | None],
        *,
        until_caught_up: bool = False,
        from_start: bool = False,
    ) -> None:
        self._connections = connections
        self._stop = stop
        self._why_silent = why_silent
        self._until_caught_up = until_caught_up
        self._from_start = from_start
        self._broker_wait = Wait(_log, f"waiting for a broker that has {connections.topic!r}", stop.monotonic)
        self._table_wait = Wait(_log, "waiting for PostgreSQL", stop.monotonic)
        self._attempts = 0

    def run(self) -> None:
        """Run sessions, each with connections of its own. Raises PostgresError, TopicError, BrokerError."""
        while not self._stop.requested:
            try:
                with closing(self._connections.new_table()) as table:
                    self._session(table)
                    return
            except PostgresAwayError as error:
                said = str(error)
                self._table_wait.goes_on(lambda: said)  # noqa: B023 - asked at once
                self._stop.wait(RETRY_SECONDS[min(self._attempts, len(RETRY_SECONDS) - 1)])
                self._attempts += 1
            except OvertakenError as error:
                _log.warning(f"{error}: going on from its progress")
                self._stop.wait(RETRY_SECONDS[0])
            except BrokerAwayError as error:
                said = str(error)
                self._broker_wait.goes_on(lambda: self._why_silent() or said)  # noqa: B023 - asked at once
                self._stop.wait(1.0)

    def _session(self, table: Table) -> None:
        with closing(self._connections.new_admin()) as admin:
            same = SameTopic(admin, self._connections.topic, self._stop.monotonic)
            with (
                closing(self._connections.new_reader()) as consumer,
                closing(SameLog(same.topic, consumer, self._connections.new_record_lookup)) as log,
            ):
                reader = WholeTopic(consumer)
                progress = self._begun(table, reader, admin, same.state, log)
                log.follow(progress)
                self._broker_wait.end("the broker answers, going on")
                self._follow(_Session(table, reader, Rows(progress), same, log))

    def _begun(self, table: Table, reader: WholeTopic, admin: Admin, state: TopicState, log: SameLog) -> Progress:
        """Have the reader start where the table's progress says. Returns the progress."""
        topic, bounds = self._connections.topic, reader.watermark_offsets()
        firsts = {partition: first for partition, (first, _) in bounds.items()}
        ends = {partition: end for partition, (_, end) in bounds.items()}
        kept = table.kept()
        if kept is None:
            progress = Progress(topic, state.id, {}, until=ends)
        else:
            progress = kept.progress
            other = (progress.topic, progress.topic_id) != (topic, state.id)
            if other and not self._from_start:
                raise TopicError(
                    f"this table holds the counts of {progress.topic!r} with the id {progress.topic_id!r}, but the"
                    f" topic here is {topic!r} with the id {state.id!r}, which was recreated or is on another cluster:"
                    " name another table in postgres.table, or start once with --from-start to keep the rows and read"
                    " the topic into them"
                )
            cut = not other and log.is_cut_back(progress, bounds)
            if cut:
                _log.warning(f"{topic!r} has lost records that were read, or has others in their place")
            missed = any(progress.offsets.get(p, first) < first for p, first in firsts.items())
            if other or cut or missed or self._from_start or kept.seconds_ago > tombstone_seconds(admin, topic) / 2:
                _log.info(f"reading {topic!r} from its start again")
                keeps = other or cut or any(firsts.values())
                progress = progress.read_again(topic, state.id, ends, keeps_unseen=keeps)
        reader.start({**firsts, **{p: at for p, at in progress.offsets.items() if p in firsts}})
        return progress

    def _follow(self, session: _Session) -> None:
        reader, rows, topic = session.reader, session.rows, self._connections.topic
        ends = {partition: end for partition, (_, end) in reader.watermark_offsets().items()}
        note = Timer(NOTE_SECONDS, self._stop.monotonic)
        self._take(session, [], reader.positions(ends))
        self._from_start = False
        while not self._stop.requested:
            if session.same.has_changed():  # begin again with what it is now
                message = f"topic {topic!r} has changed"
                raise BrokerAwayError(message)
            batches = reader.poll(POLL_SECONDS)
            positions = reader.positions(ends)
            if not session.log.continues(batches, rows.progress.offsets):
                message = f"topic {topic!r} has lost records"
                raise BrokerAwayError(message)
            if batches or note.due():
                self._take(session, batches, positions)
            until = rows.progress.until
            if rows.progress.stale if until is None else reader.is_at(until):
                self._look_at_all(session)
            if batches or reader.is_at(ends):  # a server that takes no rows may still take the progress alone
                self._table_wait.end("PostgreSQL answers, going on")
                self._attempts = 0
            if self._until_caught_up and reader.is_at(ends) and rows.progress.until is None:
                self._take(session, [], positions)
                return

    def _take(self, session: _Session, batches: list[Batch], positions: Mapping[int, int]) -> None:
        """Write what arrived, in one transaction."""
        table, rows = session.table, session.rows
        for batch in batches:
            if batch.unreadable:
                where = f"{self._connections.topic}-{batch.partition}"
                _log.warning(
                    f"{where}: skipping offsets {batch.offsets[0]} to {batch.offsets[-1]}: {batch.unreadable}: the"
                    " table lacks the counts in them"
                )
        records: list[Record] = [pair for batch in batches for pair in zip(batch.keys, batch.values, strict=True)]
        with table.change():
            stored = table.rows(buckets_of(records)) if records else {}
            changes = rows.take(records, stored)
            rows.reached(positions, session.log.read(batches))
            table.write(changes, rows.progress)
        self._say(changes.lowered(stored))

    def _look_at_all(self, session: _Session) -> None:
        """Check every row again, in many transactions; the last one notes that it is done."""
        table, rows = session.table, session.rows
        after, lowered = Bucket("", 0), 0
        while not self._stop.requested:
            with table.change():
                page = table.page(after, PAGE_ROWS)
                changes = rows.look_again(page)
                if len(page) < PAGE_ROWS:
                    rows.all_looked_at()
                table.write(changes, rows.progress)
            lowered += changes.lowered(page)
            if len(page) < PAGE_ROWS:
                break
            after = [*page][-1]
        self._say(lowered)

    def _say(self, lowered: int) -> None:
        if lowered:
            _log.warning(f"{lowered} rows now have lower counts or are gone: their counts were taken back")


def tombstone_seconds(admin: Admin, topic: str) -> float:
    """How long the topic keeps a tombstone."""
    try:
        return int(admin.settings(topic).get("delete.retention.ms", TOMBSTONE_SECONDS * 1000)) / 1000
    except BrokerAwayError:
        raise
    except (BrokerError, ValueError):  # without the right to ask
        return TOMBSTONE_SECONDS
