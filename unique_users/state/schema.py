"""The form of a state's file: its tables, the migration from older forms, and the checksum over its content."""

import hashlib
import sqlite3
from collections.abc import Mapping
from itertools import chain

from unique_users.aggregation.bucket_users import Origin
from unique_users.aggregation.counts import Count, Estimate
from unique_users.event_time.buckets import Bucket
from unique_users.event_time.rollup import Rule

VERSION = 4
APPLICATION_ID = 0x75757363  # "uusc"; distinguishes it from other SQLite files

_SCHEMA = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE origin (topic TEXT NOT NULL, topic_id TEXT NOT NULL, partition INTEGER NOT NULL,
                     partitions INTEGER NOT NULL) STRICT;
CREATE TABLE progress (next_offset INTEGER NOT NULL, floor INTEGER NOT NULL, digest BLOB NOT NULL,
                       facts BLOB NOT NULL) STRICT;
CREATE TABLE intervals (name TEXT PRIMARY KEY, zone TEXT NOT NULL, kind TEXT NOT NULL) STRICT;
CREATE TABLE buckets (interval TEXT NOT NULL, start INTEGER NOT NULL, unique_users INTEGER NOT NULL,
                      lower INTEGER, upper INTEGER, at_end INTEGER,
                      PRIMARY KEY (interval, start)) STRICT, WITHOUT ROWID;
CREATE TABLE sketches (interval TEXT NOT NULL, start INTEGER NOT NULL, sketch BLOB NOT NULL, checksum BLOB NOT NULL,
                       PRIMARY KEY (interval, start)) STRICT;
CREATE TABLE added (interval TEXT NOT NULL, start INTEGER NOT NULL, uids BLOB NOT NULL) STRICT;
CREATE INDEX added_by_bucket ON added (interval, start);
"""

# From form 1, which had only minutes, to form 2. The uids stay where they are.
_FROM_1 = """
CREATE TABLE intervals (name TEXT PRIMARY KEY, zone TEXT NOT NULL, kind TEXT NOT NULL) STRICT;
INSERT INTO intervals VALUES ('minute', '', 'exact');
ALTER TABLE buckets RENAME TO minutes;
CREATE TABLE buckets (interval TEXT NOT NULL, start INTEGER NOT NULL, unique_users INTEGER NOT NULL,
                      lower INTEGER, upper INTEGER, PRIMARY KEY (interval, start)) STRICT, WITHOUT ROWID;
INSERT INTO buckets SELECT 'minute', start, unique_users, NULL, NULL FROM minutes;
CREATE TABLE sketches (interval TEXT NOT NULL, start INTEGER NOT NULL, sketch BLOB NOT NULL, checksum BLOB NOT NULL,
                       PRIMARY KEY (interval, start)) STRICT;
DROP TABLE minutes;
DROP INDEX added_by_start;
ALTER TABLE added ADD COLUMN interval TEXT NOT NULL DEFAULT 'minute';
CREATE INDEX added_by_bucket ON added (interval, start);
"""
_FROM_2 = "ALTER TABLE progress ADD COLUMN facts BLOB NOT NULL DEFAULT X''"
_FROM_3 = "ALTER TABLE buckets ADD COLUMN at_end INTEGER"  # what they had at their ends is not known


def create(db: sqlite3.Connection, origin: Origin) -> None:
    """Create the tables of a state with nothing saved in it, in one transaction."""
    db.executescript(_SCHEMA)
    db.execute("INSERT INTO origin VALUES (?, ?, ?, ?)", origin)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Migrate the tables of an older form. Call it in a transaction that also rewrites the checksum."""
    steps = [_FROM_1.split(";"), [_FROM_2], [_FROM_3]]
    for statement in chain.from_iterable(steps[version - 1 :]):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")


def sealed(
    origin: Origin,
    next_offset: int,
    floor: int,
    digest: int,
    intervals: Mapping[str, Rule] | None = None,
    facts: bytes | None = None,
) -> bytes:
    """The checksum over everything a state says except uids; counts enter by the XOR of their fingerprints.

    `intervals` exist from form 2 on, `facts` from form 3 on.
    """
    said: tuple[object, ...] = (*origin, next_offset, floor, digest)
    if intervals is not None:
        said = (*said, sorted((name, *rule) for name, rule in intervals.items()))
    if facts is not None:
        said = (*said, facts)
    return hashlib.blake2b(repr(said).encode(), digest_size=16).digest()


def fingerprint(bucket: Bucket, count: Count, at_end: int | None = None, version: int = VERSION) -> int:
    """A number for one row, 0 for none. Rows are combined by XOR, so a save replaces only its own."""
    if not count:
        return 0
    said = ":".join(map(str, count)) if isinstance(count, Estimate) else str(count)
    text = f"{bucket.interval}:{bucket.start}:{said}" if version > 1 else f"{bucket.start}:{said}"
    if at_end is not None:
        text += f":{at_end} at its end"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def digest_of(counts: Mapping[Bucket, Count], at_end: Mapping[Bucket, int], version: int = VERSION) -> int:
    """All rows combined."""
    digest = 0
    for bucket, count in counts.items():
        digest ^= fingerprint(bucket, count, at_end.get(bucket), version)
    return digest
