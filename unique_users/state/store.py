"""The counter's state: one SQLite file for each partition of `bucketed`.

A save is one transaction: the uids added to each bucket since the last save, the counts, and the next offset. Its cost
depends on what is new, not on what is there; now and then it joins small blocks of uids. The file's content is never
trusted blindly (snapshot.py); a save updates the checksum over counts and position without reading the rest.

Longer than other modules: every statement that writes the file is here, and nowhere else.

A counter holds a lock file beside the state, which is released when its process ends, and uses SQLite's write-ahead log
(WAL): others can read the last save at any moment, and no reader can make a save wait or fail.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
import zstandard

from unique_users.aggregation.bucket_users import Origin
from unique_users.aggregation.counts import Count, Estimate, sketch_checksum, sketch_class
from unique_users.errors import OtherTopicError, StateError
from unique_users.event_time.buckets import Bucket
from unique_users.event_time.rollup import Rule
from unique_users.messages.partitioning import NEW_TOPIC
from unique_users.state.file_permissions import private_directory, private_file
from unique_users.state.lock import LOCK_SECONDS, StateLock
from unique_users.state.metadata import Facts, Snapshot, pack_facts
from unique_users.state.schema import VERSION, create, digest_of, fingerprint, migrate, sealed
from unique_users.state.snapshot import SavedFile, SavedState, explained, path_of, saved_partitions

if TYPE_CHECKING:
    from unique_users.aggregation.sketches import Sketch

# The write-ahead log that a crash may leave beside the file. SQLite moves it into the file at 4 MB.
WAL_BYTES_MAX = 4 * 1024 * 1024

# When a bucket has this many small blocks, they are joined. Larger ones stay, so that what a save rewrites
# does not grow with the bucket.
SMALL_BLOCKS_MAX = 64
SMALL_BLOCK_BYTES = 64 * 1024

_pack = msgspec.msgpack.Encoder().encode


class Stores:
    """The states in one directory, one for each partition. New ones are named by the wall clock."""

    def __init__(self, directory: Path, wall_clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self.wall_clock = wall_clock

    def open(self, origin: Origin) -> "Store":
        """The state of a partition; a new one if there is none. Raises StateError, see Store."""
        return Store(self._directory, origin)

    def look(self, topic: str, partition: int | None = None) -> list[Snapshot]:
        """Read the states of a topic, or of one partition, without changing them; unreadable ones are left out."""
        wanted = [p for p in saved_partitions(self._directory, topic) if partition in {None, p}]
        found = []
        for number in wanted:
            # Opening it says why it cannot be read.
            with suppress(StateError), SavedState(self._directory, topic, number, older=True) as state:
                found.append(Snapshot(state.origin, state.intervals, state.counts, state.facts))
        return found

    def set_aside(self, origin: Origin) -> Path:
        """Rename a state that is not open, so that the next opening starts afresh. Returns its new name."""
        path = path_of(self._directory, origin.topic, origin.partition)
        with explained(path), StateLock(path):
            return put_aside(path)


def put_aside(path: Path) -> Path:
    """Rename a state as one file; the caller holds its lock. Returns its new name. Raises StateError."""
    with explained(path), closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as db:
        # Move what is beside the file into it first. Refused while somebody reads it.
        db.execute("PRAGMA journal_mode = DELETE").fetchall()
    aside = name_aside(path)
    try:
        path.rename(aside)
    except OSError as error:
        message = f"{path}: cannot be set aside: {error.strerror}: move it away yourself"
        raise StateError(message) from None
    return aside


def name_aside(path: Path) -> Path:
    """The first unused name for a state that is set aside."""
    number = 1
    while (aside := path.with_suffix(f".old{number}.sqlite")).exists():
        number += 1
    return aside


class Store(SavedFile):
    """The state of one partition. `next_offset` is None while nothing is saved; `floor` is the first minute kept.

    Opening takes a lock that is released when the process ends. Every method may raise StateError; the file then still
    holds the last save.
    """

    def __init__(self, directory: Path, origin: Origin) -> None:
        super().__init__(path_of(directory, origin.topic, origin.partition))
        self._origin = origin
        self._blocks = Counter[Bucket]()  # added since the small ones were last joined
        self._compress = zstandard.ZstdCompressor(level=1, write_checksum=True).compress
        with explained(self.path):
            private_directory(directory)
            self._lock = StateLock(self.path)
        try:
            with explained(self.path):
                private_file(self.path)
                self._db = sqlite3.connect(self.path, timeout=LOCK_SECONDS, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise
        except BaseException:
            self._lock.close()
            raise

    def save(
        self,
        added: Mapping[Bucket, Sequence[str]],
        sketches: Mapping[Bucket, "Sketch"],
        counts: Mapping[Bucket, Count],
        next_offset: int,
        facts: Facts | None = None,
        at_end: Mapping[Bucket, int] = MappingProxyType({}),
    ) -> None:
        """Save, in one transaction, uids `added` to buckets, changed sketches, their `counts`, and the position.

        Also the facts, if they have changed, and what buckets had at their ends.
        """
        facts = facts or self.facts
        changed = {bucket: counts[bucket] for bucket in (*added, *sketches, *at_end)}
        ended = {**self._at_end, **at_end} if at_end else self._at_end
        digest = self._digest
        for bucket, count in changed.items():
            digest ^= fingerprint(bucket, self._counts.get(bucket, 0), self._at_end.get(bucket))
            digest ^= fingerprint(bucket, count, ended.get(bucket))
        with self._transaction():
            for bucket, uids in added.items():
                self._insert(bucket, uids)
                if self._blocks[bucket] + 1 >= SMALL_BLOCKS_MAX:
                    self._join_small_blocks(bucket)
            for bucket, sketch in sketches.items():
                self._write_sketch(bucket, sketch)
            self._write_counts(changed, ended)
            self._write_progress(next_offset, self.floor, digest, facts)
        self._counts.update(changed)
        self._at_end = ended
        for bucket in added:
            self._blocks[bucket] = (self._blocks[bucket] + 1) % SMALL_BLOCKS_MAX
        self._digest, self.next_offset, self.facts = digest, next_offset, facts

    def drop(self, dropped: Sequence[Bucket], floor: int) -> None:
        """Delete buckets, return their space to the disk, and save `floor`, before which no minute is left."""
        if self.next_offset is None or floor <= self.floor:
            return
        digest = self._digest ^ digest_of({bucket: self._counts[bucket] for bucket in dropped}, self._at_end)
        with self._transaction():
            self._delete(dropped)
            self._write_progress(self.next_offset, floor, digest, self.facts)
        for bucket in dropped:
            del self._counts[bucket]
            self._at_end.pop(bucket, None)
            self._blocks.pop(bucket, None)
        self._digest, self.floor = digest, floor
        self._give_back()

    def change_intervals(
        self,
        intervals: Mapping[str, Rule],
        dropped: Sequence[Bucket],
        filled: Iterable[tuple[Bucket, Iterable[str]]],
        facts: Facts | None = None,
    ) -> None:
        """In one transaction, save the intervals, delete buckets and save new ones from all of their users.

        Also the facts, if they have changed.

        While the next of `filled` is being made, `counts` and `load` know the previous ones. After an error, close.
        """
        with self._transaction():
            self._delete(dropped)
            for bucket in dropped:
                del self._counts[bucket]
                self._at_end.pop(bucket, None)
            for bucket, uids in filled:
                is_estimate = intervals[bucket.interval].kind == "estimate"
                self._counts[bucket] = self._fill_sketch(bucket, uids) if is_estimate else self._fill(bucket, uids)
                self._write_counts({bucket: self._counts[bucket]}, self._at_end)
            self._db.execute("DELETE FROM intervals")
            rows = [(name, *rule) for name, rule in intervals.items()]
            self._db.executemany("INSERT INTO intervals VALUES (?, ?, ?)", rows)
            self.intervals = dict(intervals)
            self.facts = facts or self.facts
            self._digest = digest_of(self._counts, self._at_end)
            if self.next_offset is not None:
                self._write_progress(self.next_offset, self.floor, self._digest, self.facts)
        self._give_back()

    def close(self) -> None:
        """Close the file and release its lock."""
        super().close()
        self._lock.close()

    def _open(self) -> None:
        """1. create what is missing, 2. check the form, 3. the pages, 4. the checksum, 5. the origin, 6. migrate."""
        with explained(self.path):
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}").fetchall()
            if self._is_empty():
                create(self._db, self._origin)
            else:
                self._check_form()
                self._check_pages()
            self._check_origin(self._read_and_check())
            if self.version < VERSION:
                self._migrate()
            # Last, because it changes a file of an older version, and a refused one must stay as it is.
            self._db.execute("PRAGMA journal_mode = WAL").fetchall()

    def _migrate(self) -> None:
        """Migrate a file of an older form, which was checked, in one transaction."""
        self._digest = digest_of(self._counts, self._at_end)
        with self._transaction():
            migrate(self._db, self.version)
            if self.next_offset is not None:
                self._write_progress(self.next_offset, self.floor, self._digest, self.facts)
        self.version = VERSION

    def _insert(self, bucket: Bucket, uids: Collection[str]) -> None:
        row = (*bucket, self._compress(_pack(list(uids))))
        self._db.execute("INSERT INTO added (interval, start, uids) VALUES (?, ?, ?)", row)

    def _join_small_blocks(self, bucket: Bucket) -> None:
        small = "interval = ? AND start = ? AND length(uids) < ?"
        of_bucket = (*bucket, SMALL_BLOCK_BYTES)
        blocks = self._db.execute(f"SELECT uids FROM added WHERE {small}", of_bucket).fetchall()  # noqa: S608
        if len(blocks) < 2:  # noqa: PLR2004 - nothing to join
            return
        self._db.execute(f"DELETE FROM added WHERE {small}", of_bucket)  # noqa: S608
        self._insert(bucket, [uid for (block,) in blocks for uid in self._uids(block)])

    def _fill(self, bucket: Bucket, uids: Iterable[str]) -> int:
        users = set(uids)
        self._insert(bucket, users)
        return len(users)

    def _fill_sketch(self, bucket: Bucket, uids: Iterable[str]) -> Estimate:
        sketch = sketch_class()()
        sketch.add(uids)
        self._write_sketch(bucket, sketch)
        return sketch.estimate()

    def _write_sketch(self, bucket: Bucket, sketch: "Sketch") -> None:
        data = sketch.to_bytes()
        row = (*bucket, data, sketch_checksum(data))
        self._db.execute("INSERT OR REPLACE INTO sketches VALUES (?, ?, ?, ?)", row)

    def _write_counts(self, counts: Mapping[Bucket, Count], at_end: Mapping[Bucket, int]) -> None:
        rows = [
            (*bucket, *(count if isinstance(count, Estimate) else (count, None, None)), at_end.get(bucket))
            for bucket, count in counts.items()
        ]
        self._db.executemany("INSERT OR REPLACE INTO buckets VALUES (?, ?, ?, ?, ?, ?)", rows)

    def _delete(self, buckets: Sequence[Bucket]) -> None:
        for table in ("added", "sketches", "buckets"):
            self._db.executemany(f"DELETE FROM {table} WHERE interval = ? AND start = ?", buckets)  # noqa: S608

    def _give_back(self) -> None:
        with explained(self.path):
            # execute() would stop after the first freed page.
            self._db.executescript("PRAGMA incremental_vacuum")

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
                f" {wanted.partitions}: a minute may be in two of them. {NEW_TOPIC}"
            )
            raise StateError(message)

    def _write_progress(self, next_offset: int, floor: int, digest: int, facts: Facts) -> None:
        packed = pack_facts(facts)
        self._db.execute("DELETE FROM progress")
        row = (next_offset, floor, sealed(self._origin, next_offset, floor, digest, self.intervals, packed), packed)
        self._db.execute("INSERT INTO progress VALUES (?, ?, ?, ?)", row)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with explained(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
