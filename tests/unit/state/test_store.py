import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import msgspec
import pytest
import zstandard
from repository import ROOT

from unique_users.aggregation.bucket_users import Origin
from unique_users.aggregation.counts import users_in
from unique_users.errors import LockedError, StateError
from unique_users.event_time.buckets import Bucket
from unique_users.event_time.rollup import Rule
from unique_users.state.snapshot import SavedState, saved_partitions
from unique_users.state.store import SMALL_BLOCK_BYTES, SMALL_BLOCKS_MAX, WAL_BYTES_MAX, Store, Stores

ORIGIN = Origin("bucketed", "an-id", 0, 1)
MINUTE = 1_468_244_340


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path, ORIGIN)
    yield store
    store.close()


def save(store: Store, *uids: str, start: int = MINUTE) -> None:
    """Save users that are new in a minute, and a position that is as many records further."""
    bucket = Bucket("minute", start)
    counts = {bucket: users_in(store.counts.get(bucket, 0)) + len(uids)}
    store.save({bucket: uids}, {}, counts, (store.next_offset or 0) + len(uids))


def read(directory: Path) -> SavedState:
    return SavedState(directory, "bucketed", 0)


def test_a_reader_sees_one_save_whatever_the_counter_does_meanwhile(store: Store, tmp_path: Path) -> None:
    """counter   a b saved             c saved, the minute before dropped
    reader                 opened                                          reads a b   │ opened again, reads a b c
    """
    save(store, "z", start=MINUTE - 60)
    save(store, "a", "b")
    with read(tmp_path) as state:
        save(store, "c")
        store.drop([Bucket("minute", MINUTE - 60)], MINUTE)
        assert state.counts == {Bucket("minute", MINUTE - 60): 1, Bucket("minute", MINUTE): 2}
        assert state.load(Bucket("minute", MINUTE - 60)) == ["z"]
        assert sorted(state.load(Bucket("minute", MINUTE))) == ["a", "b"]
        assert (state.origin, state.next_offset, state.floor) == (ORIGIN, 3, 0)
    with read(tmp_path) as state:
        assert state.counts == {Bucket("minute", MINUTE): 3}
        assert sorted(state.load(Bucket("minute", MINUTE))) == ["a", "b", "c"]
        assert state.load(Bucket("minute", MINUTE - 60)) == []
        assert (state.next_offset, state.floor) == (4, MINUTE)


def test_readers_that_stay_open_make_no_save_fail(store: Store, tmp_path: Path) -> None:
    save(store, "a")
    with read(tmp_path), read(tmp_path):
        for number in range(50):
            save(store, f"u{number}")
    assert store.counts == {Bucket("minute", MINUTE): 51}


def test_a_state_can_be_read_when_no_counter_runs_and_is_as_good_afterwards(tmp_path: Path) -> None:
    store = Store(tmp_path, ORIGIN)
    save(store, "a")
    store.close()
    with read(tmp_path) as state:
        assert state.counts == {Bucket("minute", MINUTE): 1}
    store = Store(tmp_path, ORIGIN)
    save(store, "b")
    assert sorted(store.load(Bucket("minute", MINUTE))) == ["a", "b"]
    store.close()


KILLED = f"""
import os, sys
from pathlib import Path
from unique_users.event_time.buckets import Bucket
from unique_users.state.store import Store
from unique_users.aggregation.bucket_users import Origin
store = Store(Path(sys.argv[1]), Origin(*{tuple(ORIGIN)!r}))
minute = Bucket("minute", 60)
store.save({{minute: ["a"]}}, {{}}, {{minute: 1}}, 1)
os._exit(9)
"""


def test_a_process_that_was_killed_leaves_no_lock_and_all_that_it_saved(tmp_path: Path) -> None:
    code = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False).returncode
    assert code == 9
    with read(tmp_path) as state:
        assert state.counts == {Bucket("minute", 60): 1}
    store = Store(tmp_path, ORIGIN)
    assert (store.counts, store.next_offset) == ({Bucket("minute", 60): 1}, 1)
    store.close()


def test_a_second_counter_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    first = Store(tmp_path, ORIGIN)
    with pytest.raises(LockedError, match="in use by another process"):
        Store(tmp_path, ORIGIN)
    first.close()
    Store(tmp_path, ORIGIN).close()


def test_a_counter_of_an_older_version_that_still_runs_is_noticed(tmp_path: Path) -> None:
    """It holds SQLite's own exclusive lock on the file."""
    Store(tmp_path, ORIGIN).close()
    old = sqlite3.connect(tmp_path / "bucketed-0.sqlite", isolation_level=None)
    old.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
    old.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LockedError, match="in use by another process"):
        Store(tmp_path, ORIGIN)
    old.close()


def test_where_no_state_is_a_reader_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"there is no such state: start counter\.py"):
        read(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert saved_partitions(tmp_path, "bucketed") == []


def test_a_state_in_which_nothing_was_saved_yet_is_empty(store: Store, tmp_path: Path) -> None:
    assert store.counts == {}
    with read(tmp_path) as state:
        assert (state.counts, state.next_offset) == ({}, None)
    (tmp_path / "bucketed-1.sqlite").touch()
    with pytest.raises(StateError, match="nothing is saved yet"):
        SavedState(tmp_path, "bucketed", 1)


def test_the_partitions_that_have_a_state_are_found(tmp_path: Path) -> None:
    for topic, partition in (("bucketed", 2), ("bucketed", 10), ("bucketed-1", 0), ("other", 3)):
        Store(tmp_path, Origin(topic, "", partition, 11)).close()
    (tmp_path / "bucketed-0.old1.sqlite").touch()
    assert saved_partitions(tmp_path, "bucketed") == [2, 10]
    assert saved_partitions(tmp_path, "bucketed-1") == [0]


@pytest.mark.parametrize(
    ("table", "change", "said"),
    [
        ("buckets", "unique_users = 7", "checksum of counts"),
        ("progress", "next_offset = 7", "checksum of counts"),
        ("origin", "topic_id = 'x'", "checksum of counts"),
    ],
)
def test_a_reader_believes_no_count_that_was_changed(tmp_path: Path, table: str, change: str, said: str) -> None:
    store = Store(tmp_path, ORIGIN)
    save(store, "a")
    store.close()
    db = sqlite3.connect(tmp_path / "bucketed-0.sqlite")
    db.execute(f"UPDATE {table} SET {change}")
    db.commit()
    db.close()
    with pytest.raises(StateError, match=said):
        read(tmp_path)


def test_a_reader_believes_no_users_that_were_changed(tmp_path: Path) -> None:
    store = Store(tmp_path, ORIGIN)
    save(store, "a")
    save(store, "b")
    store.close()
    db = sqlite3.connect(tmp_path / "bucketed-0.sqlite")
    db.execute("DELETE FROM added WHERE rowid = 1")
    db.commit()
    db.close()
    with read(tmp_path) as state, pytest.raises(StateError, match="holds 1 users, not 2"):
        state.load(Bucket("minute", MINUTE))


def test_a_state_that_is_set_aside_is_whole_and_leaves_nothing_to_the_next_one(tmp_path: Path) -> None:
    """Also when its counter was killed, and what it saved last still stands beside the file."""
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert (tmp_path / "bucketed-0.sqlite-wal").stat().st_size > 0
    aside = Stores(tmp_path).set_aside(ORIGIN)
    assert aside.name == "bucketed-0.old1.sqlite"
    assert not (tmp_path / "bucketed-0.sqlite-wal").exists()
    store = Store(tmp_path, ORIGIN)
    assert (store.counts, store.next_offset) == ({}, None)
    store.close()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(aside, elsewhere / "bucketed-0.sqlite")
    with read(elsewhere) as state:
        assert state.load(Bucket("minute", 60)) == ["a"]


def test_a_state_is_not_set_aside_from_under_a_reader(tmp_path: Path) -> None:
    store = Store(tmp_path, ORIGIN)
    save(store, "a")
    store.close()
    with read(tmp_path) as state:
        with pytest.raises(LockedError):
            Stores(tmp_path).set_aside(ORIGIN)
        assert state.load(Bucket("minute", MINUTE)) == ["a"]
    assert Stores(tmp_path).set_aside(ORIGIN).exists()


def test_what_saves_leave_beside_the_file_is_bounded(store: Store, tmp_path: Path) -> None:
    for number in range(4):
        save(store, *(f"{number}-{user}-{os.urandom(8).hex()}" for user in range(300_000)), start=60 * number)
    for _ in range(3):
        save(store, os.urandom(8).hex())
    assert (tmp_path / "bucketed-0.sqlite-wal").stat().st_size <= WAL_BYTES_MAX


def blocks_of(store: Store) -> list[int]:
    """The bytes of each block in the file."""
    db = sqlite3.connect(store.path)
    sizes = [size for (size,) in db.execute("SELECT length(uids) FROM added ORDER BY rowid")]
    db.close()
    return sizes


def test_many_small_blocks_of_a_bucket_become_one_and_large_ones_stay(store: Store, tmp_path: Path) -> None:
    """a large one, then three times as many saves of one user as may stand beside each other"""
    large = [os.urandom(10).hex() for _ in range(20_000)]
    save(store, *large)
    (size,) = blocks_of(store)
    assert size > SMALL_BLOCK_BYTES
    users = [f"user {number}" for number in range(3 * SMALL_BLOCKS_MAX)]
    for number, user in enumerate(users):
        save(store, user)
        with read(tmp_path) as state:
            assert state.load(Bucket("minute", MINUTE))[len(large) :] == users[: number + 1]
        assert len(blocks_of(store)) <= 1 + SMALL_BLOCKS_MAX
    assert blocks_of(store)[0] == size
    store.close()
    again = Store(tmp_path, ORIGIN)
    assert set(again.load(Bucket("minute", MINUTE))) == {*large, *users}
    again.close()


def test_a_damaged_block_is_noticed_when_it_is_to_be_joined_and_nothing_is_saved(store: Store) -> None:
    save(store, "a")
    db = sqlite3.connect(store.path)
    db.execute("UPDATE added SET uids = zeroblob(20)")
    db.commit()
    db.close()
    for number in range(1, SMALL_BLOCKS_MAX - 1):
        save(store, f"user {number}")
    with pytest.raises(StateError, match="damaged"):
        save(store, "one more")
    assert store.next_offset == len(blocks_of(store)) == SMALL_BLOCKS_MAX - 1


def test_a_block_that_says_it_holds_more_than_there_is_memory_is_damaged(store: Store) -> None:
    # A frame of zstd with eight bytes for its length (2 to the 62nd), and the one block of the saved frame.
    save(store, *(f"user {number}" for number in range(20)))
    db = sqlite3.connect(store.path)
    (block,) = db.execute("SELECT uids FROM added").fetchone()
    assert block[4] & 0xE0 == 0x20, "one byte for the length, no window"
    damaged = block[:4] + bytes([block[4] & 0x1F | 0xE0]) + (1 << 62).to_bytes(8, "little") + block[6:]
    db.execute("UPDATE added SET uids = ?", [damaged])
    db.commit()
    db.close()
    with pytest.raises(StateError, match="damaged"):
        store.load(Bucket("minute", MINUTE))


@pytest.mark.parametrize("kept", [0, 5, -1])
def test_a_block_that_is_cut_off_is_damaged(store: Store, kept: int) -> None:
    save(store, *(f"user {number}" for number in range(20)))
    db = sqlite3.connect(store.path)
    (block,) = db.execute("SELECT uids FROM added").fetchone()
    db.execute("UPDATE added SET uids = ?", [block[:kept]])
    db.commit()
    db.close()
    with pytest.raises(StateError, match="damaged"):
        store.load(Bucket("minute", MINUTE))


FORM_1 = """
PRAGMA auto_vacuum = INCREMENTAL;
BEGIN;
CREATE TABLE origin (topic TEXT NOT NULL, topic_id TEXT NOT NULL, partition INTEGER NOT NULL,
                     partitions INTEGER NOT NULL) STRICT;
CREATE TABLE progress (next_offset INTEGER NOT NULL, floor INTEGER NOT NULL, digest BLOB NOT NULL) STRICT;
CREATE TABLE buckets (start INTEGER PRIMARY KEY, unique_users INTEGER NOT NULL) STRICT;
CREATE TABLE added (start INTEGER NOT NULL, uids BLOB NOT NULL) STRICT;
CREATE INDEX added_by_start ON added (start);
INSERT INTO origin VALUES ('bucketed', 'an-id', 0, 1);
PRAGMA application_id = 0x75757363;
PRAGMA user_version = 1;
COMMIT;
"""


def write_form_1(path: Path, digest: bytes) -> None:
    """As the version before wrote it: the users a and b in one minute, read up to offset 2."""
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(FORM_1)
    packed = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(msgspec.msgpack.encode(["a", "b"]))
    db.execute("INSERT INTO added VALUES (?, ?)", (MINUTE, packed))
    db.execute("INSERT INTO buckets VALUES (?, 2)", (MINUTE,))
    db.execute("INSERT INTO progress VALUES (2, 60, ?)", (digest,))
    db.close()


def test_a_state_of_the_form_before_is_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "bucketed-0.sqlite"
    row = int.from_bytes(blake2b(b"%d:2" % MINUTE, digest_size=8).digest(), "big")
    write_form_1(path, blake2b(repr((*ORIGIN, 2, 60, row)).encode(), digest_size=16).digest())
    with pytest.raises(StateError, match="written by an older version"):
        read(tmp_path)
    minute = Bucket("minute", MINUTE)
    for users in (2, 3):
        store = Store(tmp_path, ORIGIN)
        assert (store.counts, store.next_offset, store.floor) == ({minute: users}, users, 60)
        assert store.intervals == {"minute": Rule("", "exact")}
        assert len(store.load(minute)) == users
        save(store, f"c{users}")
        store.close()
    with read(tmp_path) as state:
        assert sorted(state.load(minute)) == ["a", "b", "c2", "c3"]


def test_a_damaged_state_of_the_form_before_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "bucketed-0.sqlite"
    write_form_1(path, b"another one")
    before = path.read_bytes()
    with pytest.raises(StateError, match="checksum"):
        Store(tmp_path, ORIGIN)
    assert path.read_bytes() == before
