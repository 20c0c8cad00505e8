"""Where each key was set: on a line of the file, or on the command line. Messages begin with it."""

from collections.abc import Mapping
from pathlib import Path

from unique_users.config.yaml_text import Keys
from unique_users.errors import UsageError

DEFAULTS = "the defaults"


class Places:
    """The place of each key, by its path."""

    def __init__(self, path: str, lines: Mapping[Keys, int]) -> None:
        self.path = path
        self._lines = dict(lines)
        self._given: set[Keys] = set()

    def override(self, keys: Keys) -> None:
        """Note that a key and everything below it was given with `--set`."""
        self._lines = {each: line for each, line in self._lines.items() if each[: len(keys)] != keys}
        self._given.add(keys)

    def of(self, dotted: str) -> str:
        """The place of a key like `counter.report_seconds`, or of the section that it is missing from."""
        section, _, name = dotted.partition(".")
        # The names below `kafka:` belong to the client and may contain dots.
        return self.of_keys((section, name) if section == "kafka" else tuple(dotted.split(".")))

    def of_keys(self, keys: Keys) -> str:
        """As `of`, for a path."""
        for length in range(len(keys), 0, -1):
            part = keys[:length]
            if part in self._given:
                return f"--set {'.'.join(part)}"
            if part in self._lines:
                return f"{self.path}, line {self._lines[part]}"
        return self.path or DEFAULTS

    def wrong(self, dotted: str, said: str) -> UsageError:
        """The error for a key."""
        return UsageError(f"{self.of(dotted)}: {dotted}: {said}")

    def directory_of(self, dotted: str) -> Path:
        """What a relative path is relative to: the file that sets it, or the working directory for `--set`."""
        section, _, _ = dotted.partition(".")
        given = not self._given.isdisjoint({(section,), tuple(dotted.split("."))})
        return Path() if given or not self.path else Path(self.path).parent
