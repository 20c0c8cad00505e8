"""Copies of saved states: made while counters run, checked, and restored in place of the current states."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shutil import copyfile
from typing import NamedTuple

from unique_users.errors import LockedError, StateError, UsageError
from unique_users.state.file_permissions import private_directory, private_file
from unique_users.state.lock import StateLock
from unique_users.state.snapshot import SavedState, explained, path_of
from unique_users.state.store import name_aside, put_aside


class StateName(NamedTuple):
    """The file of a partition's state in a directory."""

    directory: Path
    topic: str
    partition: int

    @property
    def path(self) -> Path:
        """The path of the file."""
        return path_of(self.directory, self.topic, self.partition)

    def open(self, path: Path | None = None) -> SavedState:
        """Open the state, or the file at `path` that is to get its name. Raises StateError."""
        return SavedState(self.directory, self.topic, self.partition, path)

    def at(self, directory: Path) -> "StateName":
        """The same partition's state in another directory."""
        return self._replace(directory=directory)


def states_in(directory: Path, topic: str | None) -> list[StateName]:
    """The states of one topic in a directory; None: of every topic. Raises UsageError if there is none."""
    found = []
    for path in sorted(directory.glob("*.sqlite")):
        name, _, number = path.stem.rpartition("-")
        if number.isdecimal() and name and topic in {None, name}:
            found.append(StateName(directory, name, int(number)))
    if not found:
        what = "no state" if topic is None else f"no state of topic {topic!r}"
        message = f"{directory}: {what}: start counter.py, or name another directory or --all for every topic"
        raise UsageError(message)
    return sorted(found)


def states_of_every_name(directory: Path) -> list[StateName]:
    """The states of every topic in a directory, also of each `name`, which is a folder there and begins its topics.

    Raises UsageError if there is none.
    """
    folders = [each for each in sorted(directory.glob("*")) if any(each.glob(f"{each.name}.*.sqlite"))]
    found = []
    for place in (directory, *folders):
        with suppress(UsageError):
            found += [each for each in states_in(place, None) if place == directory or _is_named(each)]
    return found or states_in(directory, None)


def _is_named(state: StateName) -> bool:
    return state.topic.startswith(f"{state.directory.name}.")


def checked(state: StateName, *, users: bool = True) -> None:
    """Check everything a state says, see SavedState.check. Raises StateError."""
    with state.open() as saved:
        saved.check(users=users)


def backed_up(states: Sequence[StateName], directory: Path) -> Iterator[tuple[StateName, int | None]]:
    """Copy each state, as last saved, into a directory. Yields each copy, once it is safe there, and its offset.

    Nothing is overwritten. A copy gets its name only when it is whole, so an interrupted backup leaves none that looks
    whole. Raises UsageError, StateError.
    """
    for state in states:
        if (there := state.at(directory).path).exists():
            message = f"{there}: already exists: name a new directory"
            raise UsageError(message)
    with explained(directory, "name another directory"):
        private_directory(directory)
    for state in states:
        copy = state.at(directory)
        with state.open() as saved, _copied(saved, copy) as part:
            offset = saved.next_offset
            _named(part, copy.path)
        yield copy, offset


def restored(copies: Sequence[StateName], directory: Path) -> Iterator[tuple[StateName, int | None, Path | None]]:
    """Replace the states in a directory with copies. Yields each, its offset, and where the former state is now.

    1. check every copy, 2. lock all states to be replaced, 3. one after the other: copy it, check that, set the state
    aside, name the copy. Raises UsageError, StateError; a state that was not set aside is unchanged.
    """
    for copy in copies:
        if directory.exists() and copy.directory.samefile(directory):
            message = f"{directory}: this is the state directory itself: name the directory of a backup"
            raise UsageError(message)
        checked(copy)
    with explained(directory):
        private_directory(directory)
    with ExitStack() as locks:
        for copy in copies:
            with explained(copy.at(directory).path):
                locks.enter_context(StateLock(copy.at(directory).path))
        for copy in copies:
            state = copy.at(directory)
            with copy.open() as saved, _copied(saved, state) as part:
                offset = saved.next_offset
                aside = _set_aside(state.path)
                _named(part, state.path)
            yield state, offset, aside


@contextmanager
def _copied(saved: SavedState, copy: StateName) -> Iterator[Path]:
    """A checked copy in a file that nothing takes for a state; it is deleted afterwards unless it was renamed."""
    part = copy.path.with_name(f"{copy.path.name}.{os.getpid()}.part")
    try:
        saved.copy_to(part)
        with copy.open(part) as there:
            there.check(users=False)
        yield part
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            part.with_name(part.name + suffix).unlink(missing_ok=True)


def _named(part: Path, path: Path) -> None:
    with explained(path):
        if path.exists():
            raise FileExistsError(0, "there is one by now")
        part.rename(path)
        if sys.platform != "win32":
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _set_aside(path: Path) -> Path | None:
    """Rename the state whose lock is held, even a damaged one; None if there is none."""
    if not path.exists():
        return None
    aside = name_aside(path)
    wal, kept = (each.with_name(f"{each.name}-wal") for each in (path, aside))
    with explained(path):
        if wal.exists():
            private_file(kept)
            copyfile(wal, kept)
    try:
        put_aside(path)
    except LockedError:
        kept.unlink(missing_ok=True)
        raise
    except StateError:
        # SQLite cannot read it, and may have deleted the files beside it: their copy stays.
        with explained(path):
            path.rename(aside)
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
    else:
        kept.unlink(missing_ok=True)
    return aside
