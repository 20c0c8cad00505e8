"""The counter's state: one SQLite file for each partition of `bucketed`.

A save is one transaction: the uids added to each bucket since the last save, the counts, and the next offset. Its cost
follows from what is new, not from what is there.

What the file says is never trusted blindly. Uids stand in compressed deltas that carry a checksum, and together they
must give the bucket's count; counts and position are covered by a checksum of their own, which a save brings forward
without reading what is there.
"""

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import zstandard

from unique_users.errors import LockedError, OtherTopicError, StateError
from unique_users.tally import Origin

VERSION = 1
APPLICATION_ID = 0x75757363  # "uusc"; tells other SQLite files apart

_SCHEMA = """
PRAGMA auto_vacuum = INCREMENTAL;
BEGIN;
CREATE TABLE origin (topic TEXT NOT NULL, topic_id TEXT NOT NULL, partition INTEGER NOT NULL,
                     partitions INTEGER NOT NULL) STRICT;
CREATE TABLE progress (next_offset INTEGER NOT NULL, floor INTEGER NOT NULL, digest BLOB NOT NULL) STRICT;
CREATE TABLE buckets (start INTEGER PRIMARY KEY, unique_users INTEGER NOT NULL) STRICT;
CREATE TABLE added (start INTEGER NOT NULL, uids BLOB NOT NULL) STRICT;
CREATE INDEX added_by_start ON added (start);
"""

# What reading a damaged file can raise, from SQLite's pages up to the uids.
_DAMAGE = (
    sqlite3.DatabaseError,
    zstandard.ZstdError,
    msgspec.DecodeError,
    UnicodeDecodeError,
    TypeError,
    OverflowError,
)

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[str]).decode


class Stores:
    """The states in one directory, one for each partition."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self, origin: Origin) -> "Store":
        """The state of a partition; a new one when there is none. Raises StateError, see Store."""
        return Store(self._directory, origin)

    def set_aside(self, origin: Origin) -> Path:
        """Rename a state that is not open, so that the next opening starts afresh; return its new name."""
        path = _path(self._directory, origin)
        number = 1
        while (aside := path.with_suffix(f".old{number}.sqlite")).exists():
            number += 1
        try:
            path.rename(aside)
        except OSError as error:
            message = f"{path}: cannot be set aside: {error.strerror}: move it away yourself"
            raise StateError(message) from None
        return aside


def _path(directory: Path, origin: Origin) -> Path:
    return directory / f"{origin.topic}-{origin.partition}.sqlite"


class Store:
    """The state of one partition. `next_offset` is None while nothing was saved; `floor` is the first bucket kept.

    Opening takes a lock that ends with the process. Every method may raise StateError; the file then holds what was
    saved last.
    """

    def __init__(self, directory: Path, origin: Origin) -> None:
        self.path = _path(directory, origin)
        self._origin = origin
        self._counts: dict[int, int] = {}
        self._digest = 0
        self.next_offset: int | None = None
        self.floor = 0
        self._compress = zstandard.ZstdCompressor(level=1, write_checksum=True).compress
        self._decompress = zstandard.ZstdDecompressor().decompress
        with self._explained():
            directory.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=0.2, isolation_level=None)
        try:
            self._open()
        except BaseException:
            self._db.close()
            raise

    @property
    def counts(self) -> dict[int, int]:
        """The unique users of each bucket."""
        return dict(self._counts)

    def load(self, bucket: int) -> list[str]:
        """The saved uids of a bucket."""
        with self._explained():
            rows = self._db.execute("SELECT uids FROM added WHERE start = ?", (bucket,)).fetchall()
            uids = [uid for (packed,) in rows for uid in _unpack(self._decompress(packed))]
        if len(set(uids)) != self._counts.get(bucket, 0):
            raise self._damaged(f"bucket {bucket} holds {len(set(uids))} users, not {self._counts.get(bucket, 0)}")
        return uids

    def save(self, added: Mapping[int, Sequence[str]], counts: Mapping[int, int], next_offset: int) -> None:
        """Save, in one transaction, the uids `added` to buckets, those buckets' `counts`, and the position."""
        changed = {bucket: counts[bucket] for bucket in added}
        digest = self._digest
        for bucket, count in changed.items():
            digest ^= _fingerprint(bucket, self._counts.get(bucket, 0)) ^ _fingerprint(bucket, count)
        with self._transaction():
            self._db.executemany(
                "INSERT INTO added VALUES (?, ?)",
                [(bucket, self._compress(_pack(list(uids)))) for bucket, uids in added.items()],
            )
            self._db.executemany("INSERT OR REPLACE INTO buckets VALUES (?, ?)", changed.items())
            self._write_progress(next_offset, self.floor, digest)
        self._counts.update(changed)
        self._digest, self.next_offset = digest, next_offset

    def drop_before(self, floor: int) -> None:
        """Delete the buckets that start before `floor`, and give their space back to the disk."""
        if self.next_offset is None or floor <= self.floor:
            return
        dropped = [bucket for bucket in self._counts if bucket < floor]
        digest = self._digest
        for bucket in dropped:
            digest ^= _fingerprint(bucket, self._counts[bucket])
        with self._transaction():
            self._db.execute("DELETE FROM added WHERE start < ?", (floor,))
            self._db.execute("DELETE FROM buckets WHERE start < ?", (floor,))
            self._write_progress(self.next_offset, floor, digest)
        for bucket in dropped:
            del self._counts[bucket]
        self._digest, self.floor = digest, floor
        if dropped:
            with self._explained():
                # execute() would stop after the first freed page.
                self._db.executescript("PRAGMA incremental_vacuum")

    def close(self) -> None:
        """Let go of the file and its lock."""
        self._db.close()

    def _open(self) -> None:
        """1. lock, 2. make what is missing, 3. check the form, 4. the pages, 5. the origin, 6. the checksum."""
        with self._explained():
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
            self._db.execute("PRAGMA synchronous = FULL")
            is_new = not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if is_new:
                self._create()
            else:
                self._db.execute("BEGIN EXCLUSIVE")
                self._db.execute("COMMIT")
                self._check_form()
                self._check_pages()
            self._read_and_check()

    def _create(self) -> None:
        self._db.executescript(_SCHEMA)
        self._db.execute("INSERT INTO origin VALUES (?, ?, ?, ?)", self._origin)
        self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {VERSION}")
        self._db.execute("COMMIT")

    def _check_form(self) -> None:
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            message = f"{self.path}: not a state of this program: set another state.directory"
            raise StateError(message)
        if version > VERSION:
            message = (
                f"{self.path}: written by a newer version of this program (form {version}, known here: {VERSION}):"
                " run that one, or set another state.directory to count again from the topic"
            )
            raise StateError(message)

    def _check_pages(self) -> None:
        for (finding,) in self._db.execute("PRAGMA quick_check(1)"):
            if finding != "ok":
                raise self._damaged(finding)

    def _read_and_check(self) -> None:
        found = Origin(*self._db.execute("SELECT topic, topic_id, partition, partitions FROM origin").fetchone())
        self._counts = dict(self._db.execute("SELECT start, unique_users FROM buckets"))
        for bucket, count in self._counts.items():
            self._digest ^= _fingerprint(bucket, count)
        progress = self._db.execute("SELECT next_offset, floor, digest FROM progress").fetchone()
        if progress is not None:
            next_offset, floor, digest = progress
            self.next_offset, self.floor = next_offset, floor
            if digest != self._sealed(found, next_offset, floor, self._digest):
                raise self._damaged("the checksum of counts and position does not fit")
        elif self._counts:
            raise self._damaged("counts without a position")
        self._check_origin(found)

    def _check_origin(self, found: Origin) -> None:
        wanted = self._origin
        if (found.topic, found.partition) != (wanted.topic, wanted.partition):
            message = f"{self.path}: this is the state of {found.topic}-{found.partition}: move it back to its name"
            raise StateError(message)
        if found.topic_id != wanted.topic_id:
            message = f"{self.path}: counted from another topic named {wanted.topic!r} (id {found.topic_id or 'none'})"
            raise OtherTopicError(message)
        if found.partitions != wanted.partitions:
            message = (
                f"{self.path}: counted while {wanted.topic!r} had {found.partitions} partitions, now it has"
                f" {wanted.partitions}: a minute may stand in two of them. Make a new topic, set topics.bucketed.name"
                " to it and bucketer.group to a new group, and let the bucketer fill it from the start of feed"
            )
            raise StateError(message)

    def _write_progress(self, next_offset: int, floor: int, digest: int) -> None:
        self._db.execute("DELETE FROM progress")
        sealed = self._sealed(self._origin, next_offset, floor, digest)
        self._db.execute("INSERT INTO progress VALUES (?, ?, ?)", (next_offset, floor, sealed))

    @staticmethod
    def _sealed(origin: Origin, next_offset: int | None, floor: int, digest: int) -> bytes:
        return hashlib.blake2b(repr((*origin, next_offset, floor, digest)).encode(), digest_size=16).digest()

    def _damaged(self, finding: str) -> StateError:
        return StateError(
            f"{self.path}: damaged ({' '.join(finding.split())}): put a copy in its place, or move the file away to"
            " count again from the topic"
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                message = (
                    f"{self.path}: in use by another process: stop the other counter, or set another state.directory"
                )
                raise LockedError(message) from None
            message = (
                f"{self.path}: cannot be used: {error}: what was saved last is still valid; mend it and start again"
            )
            raise StateError(message) from None
        except _DAMAGE as error:
            raise self._damaged(str(error)) from None
        except OSError as error:
            message = f"{self.path}: cannot be used: {error.strerror}: set state.directory to a writable folder"
            raise StateError(message) from None


def _fingerprint(bucket: int, count: int) -> int:
    """A number for one row, 0 for none; rows are combined by XOR, so that a save replaces its own alone."""
    if not count:
        return 0
    return int.from_bytes(hashlib.blake2b(b"%d:%d" % (bucket, count), digest_size=8).digest(), "big")
