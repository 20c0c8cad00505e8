"""What a saved state says, read without trust: by its counter, and by others while that runs.

Uids are stored in compressed deltas with a checksum, and together must give the bucket's count. So must the sketch of
an estimated bucket, which has a checksum too. Counts and position have a checksum of their own.

Longer than other modules: every statement that reads the file is here, and nowhere else.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec
import zstandard

from unique_users.aggregation.bucket_users import Origin
from unique_users.aggregation.counts import Count, DamagedSketchError, Estimate, sketch_class
from unique_users.errors import LockedError, StateError
from unique_users.event_time.buckets import MINUTE, Bucket
from unique_users.event_time.rollup import Rule
from unique_users.state.file_permissions import private_new_file
from unique_users.state.metadata import Facts, unpack_facts
from unique_users.state.schema import APPLICATION_ID, VERSION, digest_of, sealed

if TYPE_CHECKING:
    from unique_users.aggregation.sketches import Sketch

READ_SECONDS = 5.0  # how long a reader waits while a counter opens, closes or moves the file

# What reading a damaged file can raise, from SQLite's pages to the uids.
_DAMAGE = (
    sqlite3.DatabaseError,
    zstandard.ZstdError,
    DamagedSketchError,
    msgspec.DecodeError,
    UnicodeDecodeError,
    TypeError,
    OverflowError,
)

_unpack = msgspec.msgpack.Decoder(list[str]).decode


def path_of(directory: Path, topic: str, partition: int) -> Path:
    """The file that holds the state of a partition."""
    return directory / f"{topic}-{partition}.sqlite"


def saved_partitions(directory: Path, topic: str) -> list[int]:
    """The partitions of a topic that have a state in a directory."""
    names = (path.stem.rpartition("-") for path in directory.glob("*.sqlite"))
    return sorted(int(number) for name, _, number in names if name == topic and number.isdecimal())


class SavedFile:
    """The checked content of one file. Every method may raise StateError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection
        self.version = VERSION
        self._counts: dict[Bucket, Count] = {}
        self._at_end: dict[Bucket, int] = {}
        self.intervals: dict[str, Rule] = {}  # the intervals being counted
        self._digest = 0
        self.next_offset: int | None = None
        self.floor = 0
        self.facts = Facts()
        self._decompressor = zstandard.ZstdDecompressor()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @property
    def counts(self) -> dict[Bucket, Count]:
        """The unique users of each bucket."""
        return dict(self._counts)

    @property
    def at_end(self) -> dict[Bucket, int]:
        """What buckets had when the stream's clock passed their ends, as far as that is known."""
        return dict(self._at_end)

    def load(self, bucket: Bucket) -> list[str]:
        """The saved uids of a bucket; empty if it has none."""
        if bucket not in self._counts:
            return []
        with explained(self.path):
            wanted = "SELECT uids FROM added WHERE interval = ? AND start = ?"
            rows = self._db.execute(wanted, bucket).fetchall()
            uids = [uid for (block,) in rows for uid in self._uids(block)]
        if len(set(uids)) != self._counts[bucket]:
            found = f"{bucket.interval} {bucket.start} holds {len(set(uids))} users, not {self._counts[bucket]}"
            raise damaged(self.path, f"bucket {found}")
        return uids

    def _uids(self, block: bytes) -> list[str]:
        # Not at once: that would take as much memory as a damaged block claims to hold.
        decompressor = self._decompressor.decompressobj()
        packed = decompressor.decompress(block)
        if not decompressor.eof:
            raise zstandard.ZstdError("a block of uids is cut off")
        return _unpack(packed)

    def load_sketch(self, bucket: Bucket) -> "Sketch":
        """The saved sketch of an estimated bucket, which must exist."""
        with explained(self.path):
            wanted = "SELECT sketch, checksum FROM sketches WHERE interval = ? AND start = ?"
            row = self._db.execute(wanted, bucket).fetchone()
            sketch = sketch_class().from_bytes(*row) if row else sketch_class()()
        if (found := sketch.estimate()) != self._counts[bucket]:
            said = f"the sketch of {bucket.interval} {bucket.start} says {found.unique_users}"
            raise damaged(self.path, f"{said}, not {self._counts[bucket]}")
        return sketch

    def _is_empty(self) -> bool:
        return not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]

    def _check_form(self) -> None:
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            message = f"{self.path}: not a state file of this program: set another state.directory"
            raise StateError(message)
        if version > VERSION:
            message = (
                f"{self.path}: written by a newer version (format {version}, this one knows up to {VERSION}):"
                " run that one, or set another state.directory to count again from the topic"
            )
            raise StateError(message)
        self.version = version

    def _check_pages(self) -> None:
        for (finding,) in self._db.execute("PRAGMA quick_check(1)"):
            if finding != "ok":
                raise damaged(self.path, finding)

    def _read_and_check(self) -> Origin:
        """Read everything but the uids, and return whose state this is."""
        found = Origin(*self._db.execute("SELECT topic, topic_id, partition, partitions FROM origin").fetchone())
        if self.version == 1:  # minutes alone
            self.intervals = {MINUTE.name: Rule("", "exact")}
            rows = self._db.execute("SELECT 'minute', start, unique_users, NULL, NULL, NULL FROM buckets")
        else:
            kinds = self._db.execute("SELECT name, zone, kind FROM intervals")
            self.intervals = {name: Rule(zone, kind) for name, zone, kind in kinds}
            at_end = "at_end" if self.version > 3 else "NULL"  # noqa: PLR2004 - the form that introduced them
            wanted = f"SELECT interval, start, unique_users, lower, upper, {at_end} FROM buckets"  # noqa: S608
            rows = self._db.execute(wanted)
        self._counts, self._at_end = {}, {}
        for interval, start, count, lower, upper, ended in rows:
            bucket = Bucket(interval, start)
            self._counts[bucket] = count if lower is None else Estimate(count, lower, upper)
            if ended is not None:
                self._at_end[bucket] = ended
        self._digest = digest_of(self._counts, self._at_end, self.version)
        facts = "facts" if self.version > 2 else "NULL"  # noqa: PLR2004 - the form that introduced them
        progress = self._db.execute(f"SELECT next_offset, floor, digest, {facts} FROM progress").fetchone()  # noqa: S608
        if progress is not None:
            self.next_offset, self.floor, digest, packed = progress
            intervals = None if self.version == 1 else self.intervals
            if digest != sealed(found, self.next_offset or 0, self.floor, self._digest, intervals, packed):
                raise damaged(self.path, "the checksum of counts and position does not fit")
            if packed is not None:
                self.facts = unpack_facts(packed)
        elif self._counts:
            raise damaged(self.path, "counts without a position")
        return found


class SavedState(SavedFile):
    """The state of a partition as saved when this was made, whatever its counter does meanwhile.

    A context manager that changes nothing and never blocks a counter. Close it soon: while it is open, SQLite's
    write-ahead log beside the state keeps growing. With `older`, states of an older form are read too.
    """

    def __init__(
        self,
        directory: Path,
        topic: str,
        partition: int,
        path: Path | None = None,
        *,
        older: bool = False,
        alone: bool = False,
    ) -> None:
        """`path` is where the file is while it does not have its name yet.

        If it is known to be `alone`, without a counter that has it open, reading it makes no files beside it.
        """
        self._older = older
        self._alone = alone
        super().__init__(path or path_of(directory, topic, partition))
        self._of = (topic, partition)
        if not self.path.exists():
            message = f"{self.path}: there is no such state: start counter.py, or fix state.directory"
            raise StateError(message)
        with explained(self.path):
            self._db = self._connected()
        try:
            with explained(self.path):
                self.origin = self._read()
        except BaseException:
            self._db.close()
            raise

    def _connected(self) -> sqlite3.Connection:
        """SQLite shares a file through others beside it. Without write access, only unopened files can be read."""
        address = f"{self.path.absolute().as_uri()}?mode=ro"
        if self._alone:
            return sqlite3.connect(f"{address}&immutable=1", uri=True, isolation_level=None)
        db = sqlite3.connect(address, uri=True, timeout=READ_SECONDS, isolation_level=None)
        try:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            db.close()
            if not any(said in str(error) for said in ("readonly", "unable to open")):
                raise
            log = self.path.with_name(f"{self.path.name}-wal")
            if log.exists() and log.stat().st_size:
                message = (
                    f"{self.path}: its last saves are in {log.name}, and reading them needs permission to write"
                    " there: ask for it, or read a copy made by `unique-users state backup`"
                )
                raise StateError(message) from None
            return sqlite3.connect(f"{address}&immutable=1", uri=True, isolation_level=None)
        return db

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> Origin:
        self._db.execute("BEGIN")  # until the end: everything read is from one save
        if self._is_empty():
            message = f"{self.path}: nothing is saved yet: wait for counter.py"
            raise StateError(message)
        self._check_form()
        if self.version < VERSION and not self._older:
            message = f"{self.path}: written by an older version of this program: start counter.py, which upgrades it"
            raise StateError(message)
        origin = self._read_and_check()
        if (origin.topic, origin.partition) != self._of:
            message = f"{self.path}: this is the state of {origin.topic}-{origin.partition}: move it back to its name"
            raise StateError(message)
        return origin

    def check(self, *, users: bool) -> None:
        """Check the pages; with `users`, also that the users of each bucket can be read and match its count."""
        with explained(self.path):
            self._check_pages()
        for bucket, count in self._counts.items() if users else ():
            if isinstance(count, Estimate):
                self.load_sketch(bucket)
            else:
                self.load(bucket)

    def copy_to(self, path: Path) -> None:
        """Write this save to a new file, self-contained and private to its owner."""
        with explained(path):
            private_new_file(path)
            with closing(sqlite3.connect(path, isolation_level=None)) as copy:
                self._db.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE").fetchall()
            with path.open("rb+") as file:
                os.fsync(file.fileno())


def damaged(path: Path, finding: str) -> StateError:
    """The error for a file that does not hold what was written."""
    return StateError(
        f"{path}: damaged ({' '.join(finding.split())}): put a backup in its place, or move the file away to"
        " count again from the topic"
    )


@contextmanager
def explained(path: Path, otherwise: str = "set state.directory to a writable folder") -> Iterator[None]:
    """Turn errors of SQLite, decompression and the disk into a StateError that says what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            message = f"{path}: in use by another process: stop it, or set another state.directory"
            raise LockedError(message) from None
        message = f"{path}: cannot be used: {error}: the last save is still valid; fix it and start again"
        raise StateError(message) from None
    except _DAMAGE as error:
        raise damaged(path, str(error)) from None
    except OSError as error:
        message = f"{path}: cannot be used: {error.strerror}: {otherwise}"
        raise StateError(message) from None
