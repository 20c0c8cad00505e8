"""State files, their locks and their copies are private to their owner from the moment they exist.

On Windows the permissions of the folder apply.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_BESIDE = ("", "-wal", "-shm", "-journal")  # SQLite gives the latter the permissions of the file itself


def private_directory(path: Path) -> None:
    """Create the folder unless it exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


def private_new_file(path: Path) -> None:
    """Create an empty file, which SQLite takes for an empty database. Raises FileExistsError."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def private_file(path: Path) -> None:
    """Create the file unless it exists, and make it and SQLite's files beside it private to their owner.

    An existing file is not opened: closing it again would release the locks that this process holds on it.
    """
    try:
        private_new_file(path)
    except FileExistsError:
        if os.name == "posix":
            for suffix in _BESIDE:
                with suppress(FileNotFoundError, PermissionError):  # gone by now; or another user's, which we may use
                    _narrow(path.with_name(path.name + suffix))


def _narrow(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS:
        path.chmod(mode & ~_OTHERS)
