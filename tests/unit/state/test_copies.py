"""Backups and restored states: whole, private, and nothing lost."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from unique_users.aggregation.bucket_users import Origin
from unique_users.aggregation.sketches import Sketch
from unique_users.errors import LockedError, StateError, UsageError
from unique_users.event_time.buckets import Bucket
from unique_users.event_time.rollup import Rule
from unique_users.state.backups import StateName, backed_up, checked, restored, states_in, states_of_every_name
from unique_users.state.store import Store, Stores

MINUTE, MONTH = Bucket("minute", 1_468_244_340), Bucket("month", 1_467_331_200)
posix = pytest.mark.skipif(os.name != "posix", reason="the rights of POSIX")


def origin(partition: int = 0, topic: str = "bucketed") -> Origin:
    return Origin(topic, "id", partition, 2)


def save(store: Store, uids: list[str], offset: int) -> None:
    """Save a minute and a month that is estimated, both of these users."""
    store.change_intervals({"minute": Rule("", "exact"), "month": Rule("UTC", "estimate")}, [], [])
    sketch = Sketch()
    sketch.add(uids)
    store.save({MINUTE: uids}, {MONTH: sketch}, {MINUTE: len(uids), MONTH: sketch.estimate()}, offset)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(state: Path) -> Iterator[Store]:
    """An open state of a partition, whose saves stand beside the file."""
    store = Store(state, origin())
    save(store, ["a", "b"], 10)
    yield store
    store.close()


def backup(state: Path, to: Path) -> list[tuple[StateName, int | None]]:
    return list(backed_up(states_in(state, "bucketed"), to))


def restore(copies: Path, state: Path) -> list[tuple[StateName, int | None, Path | None]]:
    return list(restored(states_in(copies, "bucketed"), state))


def users(directory: Path) -> set[str]:
    with StateName(directory, "bucketed", 0).open() as saved:
        return set(saved.load(MINUTE))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_backup_of_an_open_state_is_one_whole_file(store: Store, state: Path, tmp_path: Path) -> None:
    assert backup(state, tmp_path / "copies") == [(StateName(tmp_path / "copies", "bucketed", 0), 10)]
    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["bucketed-0.sqlite"]
    store.drop([MINUTE], MINUTE.start + 60)
    assert users(tmp_path / "copies") == {"a", "b"}
    checked(StateName(tmp_path / "copies", "bucketed", 0))


def test_a_backup_never_overwrites(store: Store, state: Path, tmp_path: Path) -> None:
    backup(state, tmp_path / "copies")
    before = (tmp_path / "copies/bucketed-0.sqlite").read_bytes()
    store.drop([MINUTE], MINUTE.start + 60)
    with pytest.raises(UsageError, match=r"bucketed-0\.sqlite: already exists: name a new directory"):
        backup(state, tmp_path / "copies")
    assert (tmp_path / "copies/bucketed-0.sqlite").read_bytes() == before


def test_states_of_other_topics_are_left_alone(store: Store, state: Path, tmp_path: Path) -> None:
    Store(state, origin(1, "bucketed-2")).close()
    Stores(state).set_aside(origin(1, "bucketed-2"))
    Store(state, origin(1, "other")).close()
    assert store.next_offset
    assert [each.path.name for each in states_in(state, "bucketed")] == ["bucketed-0.sqlite"]
    assert [each.path.name for each in states_in(state, None)] == ["bucketed-0.sqlite", "other-1.sqlite"]
    with pytest.raises(UsageError, match=r"no state of topic 'bucketed-2': start counter\.py, or name another"):
        states_in(state, "bucketed-2")
    with pytest.raises(UsageError, match="no state of topic 'bucketed'"):
        states_in(tmp_path / "missing", "bucketed")


def test_states_of_every_name_are_found_and_copies_are_not(store: Store, state: Path, tmp_path: Path) -> None:
    Store(state / "a", origin(0, "a.bucketed")).close()
    assert store.next_offset
    backup(state, state / "copies")
    found = states_of_every_name(state)
    assert [each.path for each in found] == [state / "bucketed-0.sqlite", state / "a" / "a.bucketed-0.sqlite"]
    with pytest.raises(UsageError, match="no state"):
        states_of_every_name(tmp_path / "missing")


def test_a_restored_state_goes_on_from_its_older_position_and_the_newer_one_is_kept(
    state: Path, tmp_path: Path
) -> None:
    store = Store(state, origin())
    save(store, ["a", "b"], 10)
    backup(state, tmp_path / "copies")
    store.save({MINUTE: ["c"]}, {}, {MINUTE: 3}, 20)
    with pytest.raises(LockedError, match="in use by another process"):
        restore(tmp_path / "copies", state)
    store.close()
    aside = state / "bucketed-0.old1.sqlite"
    assert restore(tmp_path / "copies", state) == [(StateName(state, "bucketed", 0), 10, aside)]
    assert restore(tmp_path / "copies", state)[0][2] == state / "bucketed-0.old2.sqlite"
    again = Store(state, origin())
    assert (again.next_offset, again.load(MINUTE)) == (10, ["a", "b"])
    again.close()
    aside.replace(state / "bucketed-0.sqlite")
    again = Store(state, origin())
    assert (again.next_offset, set(again.load(MINUTE))) == (20, {"a", "b", "c"})
    again.close()


def test_a_state_may_be_restored_where_there_is_none(store: Store, state: Path, tmp_path: Path) -> None:
    backup(state, tmp_path / "copies")
    assert restore(tmp_path / "copies", tmp_path / "new")[0][2] is None
    assert users(tmp_path / "new") == {"a", "b"}
    assert store.next_offset == 10


def test_a_damaged_state_is_replaced_and_all_its_pieces_are_kept(store: Store, state: Path, tmp_path: Path) -> None:
    backup(state, tmp_path / "copies")
    store.close()
    path = state / "bucketed-0.sqlite"
    path.write_bytes(b"no database" * 1_000)
    path.with_name(f"{path.name}-wal").write_bytes(b"what was saved last")
    restore(tmp_path / "copies", state)
    assert users(state) == {"a", "b"}
    assert (state / "bucketed-0.old1.sqlite").read_bytes() == b"no database" * 1_000
    assert (state / "bucketed-0.old1.sqlite-wal").read_bytes() == b"what was saved last"


@pytest.mark.parametrize("damage", ["uids", "sketch", "count", "cut", "other"])
def test_a_damaged_copy_is_found_and_nothing_is_replaced(state: Path, tmp_path: Path, damage: str) -> None:
    store = Store(state, origin())
    save(store, ["a", "b"], 10)
    store.close()
    backup(state, tmp_path / "copies")
    copy = tmp_path / "copies/bucketed-0.sqlite"
    statements = {
        "uids": "UPDATE added SET uids = x'00'",
        "sketch": "DELETE FROM sketches",
        "count": "UPDATE buckets SET unique_users = 3",
        "other": "UPDATE origin SET partition = 1",
    }
    if damage == "cut":
        copy.write_bytes(copy.read_bytes()[:-4_096])
    else:
        db = sqlite3.connect(copy)
        db.execute(statements[damage])
        db.commit()
        db.close()
    before = (state / "bucketed-0.sqlite").read_bytes()
    with pytest.raises(StateError, match=r"copies.bucketed-0\.sqlite: "):
        checked(StateName(tmp_path / "copies", "bucketed", 0))
    with pytest.raises(StateError, match=r"copies.bucketed-0\.sqlite: "):
        restore(tmp_path / "copies", state)
    assert (state / "bucketed-0.sqlite").read_bytes() == before
    assert not list(state.glob("*.old*"))


def test_the_states_are_not_restored_from_themselves(store: Store, state: Path) -> None:
    with pytest.raises(UsageError, match="this is the state directory itself"):
        restore(state, state)
    assert store.next_offset == 10


def test_a_copy_that_was_cut_short_is_no_state(store: Store, state: Path, tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies/bucketed-0.sqlite.123.part").write_bytes(b"half")
    with pytest.raises(UsageError, match="no state"):
        states_in(tmp_path / "copies", None)
    backup(state, tmp_path / "copies")
    assert users(tmp_path / "copies") == {"a", "b"}
    assert store.next_offset == 10


@posix
def test_states_locks_and_copies_are_for_their_owner_alone(tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        state, copies = tmp_path / "state", tmp_path / "copies"
        store = Store(state, origin())
        save(store, ["a"], 1)
        names = {path.name.partition("sqlite")[2] or path.suffix for path in state.iterdir()}
        assert names >= {"-wal", ".lock"}
        backup(state, copies)
        assert {mode(path) for path in (*state.iterdir(), *copies.iterdir())} == {0o600}
        store.close()
        restore(copies, state)
        assert {mode(path) for path in state.iterdir()} == {0o600}
        assert {mode(state), mode(copies)} == {0o700}
    finally:
        os.umask(former)


@posix
def test_files_that_others_may_read_are_narrowed_when_a_counter_opens_them(store: Store, state: Path) -> None:
    store.close()
    for path in state.iterdir():
        path.chmod(0o664)
    again = Store(state, origin())
    save(again, ["c"], 20)
    assert {mode(path) for path in state.iterdir()} == {0o600}
    again.close()


@posix
def test_no_file_of_a_state_is_made_by_sqlite_itself(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, bool]] = []
    connect = sqlite3.connect

    def watched(path: Path, **rest: object) -> sqlite3.Connection:
        seen.append((str(path), Path(path).exists() and mode(Path(path)) == 0o600))
        return connect(path, **rest)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(sqlite3, "connect", watched)
    Store(state, origin()).close()
    assert [private for _, private in seen] == [True, True], seen


def test_a_second_owner_is_refused_and_the_first_keeps_its_lock(store: Store, state: Path) -> None:
    for _ in range(2):
        with pytest.raises(LockedError):
            Store(state, origin())
    assert store.next_offset == 10
