"""A state has one owner at a time."""

import sqlite3
from pathlib import Path

from unique_users.state.file_permissions import private_file

LOCK_SECONDS = 0.2  # the caller tries again


class StateLock:
    """Held by one process at a time, and released when it ends.

    Raises OSError and sqlite3's errors, `locked` among them.
    """

    def __init__(self, state: Path) -> None:
        # An empty database, because its lock works the same way on every system.
        path = state.with_suffix(".lock")
        private_file(path)
        self._db = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode = MEMORY").fetchall()
            self._db.execute("BEGIN EXCLUSIVE")
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release it."""
        self._db.close()
