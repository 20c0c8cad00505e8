"""The table in PostgreSQL, with its progress beside it. The only module that imports psycopg."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from unique_users.aggregation.counts import Estimate, users_in
from unique_users.config.schema import Postgres
from unique_users.errors import UniqueUsersError, UsageError
from unique_users.event_time.buckets import Bucket
from unique_users.exports import statements
from unique_users.exports.progress import Progress
from unique_users.exports.rows import Changes, Row, Source
from unique_users.messages.counts import count_of
from unique_users.messages.merged_counts import PublishedBucket

# A server that goes away without a word is noticed within half a minute.
_CONNECTION: dict[str, Any] = {
    "fallback_application_name": "unique-users export",
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
_CREATED = {"table": statements.CREATE_TABLE, "progress": statements.CREATE_PROGRESS}
OVERTAKEN = "another export writes to this table too"
_WAITED_FOR = {"25006", "25P03", "25P04"}  # a standby, a transaction that was idle or lasted too long
# What the server said, if it is there and waiting does not help.
_REFUSALS = re.compile(r"authentication failed|no password supplied|no pg_hba\.conf entry|does not exist|not permitted")


class PostgresError(UniqueUsersError):
    """PostgreSQL answered and refused: a login, a right, a table with other columns. Fix what the message names."""


class PostgresAwayError(PostgresError):
    """PostgreSQL does not answer, or ended the connection. The export connects again."""


class OvertakenError(PostgresError):
    """Another export has written to the table since its progress was read."""


class Kept(NamedTuple):
    """The progress in the database, and how long ago it was written."""

    progress: Progress
    seconds_ago: float


def checked(settings: Postgres) -> Postgres:
    """Raise UsageError if the connection string is wrong or holds a password."""
    try:
        given = conninfo_to_dict(settings.dsn)
    except psycopg.Error:
        message = "postgres.dsn: expected a connection string of libpq, like host=db.example dbname=stats user=export"
        raise UsageError(message) from None
    if "password" in given:
        message = "postgres.dsn: it holds a password: put it in postgres.password as ${file:/PATH} or ${NAME}, or in"
        raise UsageError(f"{message} PGPASSWORD or a passfile")
    return settings


@contextmanager
def explained(settings: Postgres) -> Iterator[None]:
    """Raise PostgresError for what psycopg raises: one line, without the password."""
    try:
        yield
    except psycopg.Error as error:
        said = str(error).replace(settings.password, "***") if settings.password else str(error)
        said = " ".join(said.split())[:400]
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        if error.sqlstate in _WAITED_FOR or (lost and not _REFUSALS.search(said)):
            raise PostgresAwayError(said) from None
        raise PostgresError(f"PostgreSQL refuses: {said}") from None


class Table:
    """The table, on a connection of its own. Every method may raise PostgresError or PostgresAwayError."""

    def __init__(self, settings: Postgres) -> None:
        self._settings = settings
        self._version: int | None = None
        schema, _, name = settings.table.rpartition(".")
        names = [(*((schema,) if schema else ()), each) for each in (name, f"{name}_progress")]
        self._names = {"table": sql.Identifier(*names[0]), "progress": sql.Identifier(*names[1])}
        with explained(settings):
            # Text comes as bytes, which equal no string, from a database in SQL_ASCII that nobody asks for UTF-8.
            given = {**_CONNECTION, **conninfo_to_dict(settings.dsn), "client_encoding": "utf8"}
            if settings.password:
                given["password"] = settings.password
            # A pooler, as pgbouncer, may give each transaction another connection, which has nothing prepared.
            self._connection = psycopg.connect(autocommit=True, prepare_threshold=None, **given)

    def kept(self) -> Kept | None:
        """The progress, or None for a table that has none yet; creates what is missing."""
        names = {name: identifier.as_string(self._connection) for name, identifier in self._names.items()}
        with explained(self._settings):
            with self._connection.transaction():  # of two at once, PostgreSQL would let one fail
                self._execute(statements.TIMEOUTS)
                self._execute(statements.LOCK_CREATION, [names["table"]])
                for name, statement in _CREATED.items():
                    if self._execute(statements.EXISTS, [names[name]]) == [(False,)]:
                        self._execute(statement)
            found = self._execute(statements.READ_PROGRESS)
        if not found:
            self._version = None
            return None
        ((self._version, progress, seconds_ago),) = found
        return Kept(msgspec.json.decode(progress, type=Progress), float(seconds_ago))

    @contextmanager
    def change(self) -> Iterator[None]:
        """A transaction that has the table to itself. Raises OvertakenError if another export has written to it."""
        with explained(self._settings), self._connection.transaction():
            self._execute(statements.TIMEOUTS)
            if self._version is not None:
                found = self._execute(statements.LOCK_PROGRESS)
                if found != [(self._version,)]:
                    raise OvertakenError(OVERTAKEN)
            yield

    def rows(self, buckets: Iterable[Bucket]) -> dict[Bucket, Row]:
        """The rows of these buckets, where there are any."""
        asked = list(buckets)
        columns = [[bucket.interval for bucket in asked], [bucket.start for bucket in asked]]
        return dict(map(_row, self._execute(statements.READ_ROWS, columns))) if asked else {}

    def page(self, after: Bucket, rows_max: int) -> dict[Bucket, Row]:
        """The first rows after a bucket, in order."""
        return dict(map(_row, self._execute(statements.READ_PAGE, [*after, rows_max])))

    def write(self, changes: Changes, progress: Progress) -> None:
        """Write rows and progress, in a transaction of `change`."""
        if changes.written:
            values = [_values(bucket, row) for bucket, row in changes.written.items()]
            self._execute(statements.WRITE_ROWS, list(zip(*values, strict=True)))
        if changes.deleted:
            self._execute(statements.DELETE_ROWS, list(zip(*changes.deleted, strict=True)))
        statement = statements.BEGIN_PROGRESS if self._version is None else statements.WRITE_PROGRESS
        found = self._execute(statement, [msgspec.json.encode(progress).decode()])
        if not found:
            raise OvertakenError(OVERTAKEN)
        ((self._version,),) = found

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(sql.SQL(statement).format(**self._names), [*map(_as_list, values)])
        return cursor.fetchall() if cursor.description else []


def _row(found: tuple[Any, ...]) -> tuple[Bucket, Row]:
    interval, start, users, lower, upper, at_end, why, source = found
    counted = PublishedBucket(count_of(users, lower, upper), tuple(why), at_end)
    return Bucket(interval, start), Row(counted, msgspec.json.decode(source, type=Source))


def _values(bucket: Bucket, row: Row) -> tuple[Any, ...]:
    total, why, at_end = row.counted
    bounds = (total.lower, total.upper) if isinstance(total, Estimate) else (None, None)
    source = msgspec.json.encode(row.source).decode()
    return (*bucket, users_in(total), *bounds, at_end, msgspec.json.encode(why).decode(), source)


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
