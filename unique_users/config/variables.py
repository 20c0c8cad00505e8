"""Fills in what a value takes from elsewhere: `${NAME}`, `${NAME:-default}` and `${file:/PATH}`.

No error shows more than the name of a variable or the path of a file: the rest may be a secret.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unique_users.config.complaints import shown
from unique_users.config.places import Places
from unique_users.errors import UsageError

FILE_BYTES_MAX = 65_536
_VARIABLE = re.compile(r"\$\{(?:file:(?P<path>[^}]*)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?)\}")


def filled_in(node: Any, environment: Mapping[str, str], places: Places, address: str = "") -> Any:
    """The tree with every variable in its strings filled in. Raises UsageError."""
    if isinstance(node, dict):
        return {
            key: filled_in(value, environment, places, f"{address}.{shown(key)}".lstrip("."))
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [filled_in(value, environment, places, f"{address}[]") for value in node]
    if not isinstance(node, str):
        return node

    def value_of(variable: re.Match[str]) -> str:
        whole = variable[0] == node
        if variable["path"] is not None:
            return _of_file(variable["path"], address, places, whole=whole)
        return _of_environment(variable, environment, address, places, whole=whole)

    return _VARIABLE.sub(value_of, node)


def _of_environment(
    variable: re.Match[str], environment: Mapping[str, str], address: str, places: Places, *, whole: bool
) -> str:
    name, default = variable["name"], variable["default"]
    value = environment.get(name)
    if default is not None:
        return value or default.removeprefix(":-")
    if value is None:
        # If it is not the whole value, it may be a password that only looks like a variable.
        told = name if whole or not address.startswith(("kafka.", "postgres.")) else "NAME"
        what = f"the environment variable {name}" if told == name else "an environment variable in it"
        raise _wrong(address, places, f"{what} is not set: set it, or write ${{{told}:-default}}")
    return value


def _of_file(path: str, address: str, places: Places, *, whole: bool) -> str:
    """The text of a file without the line end that editors put behind it."""
    named = path if whole else "a file in it"  # as above
    if not Path(path).is_absolute():
        raise _wrong(address, places, f"{named}: expected ${{file:/PATH}} with the full path of a file")
    try:
        with Path(path).open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        text = content.decode("utf-8-sig")  # some editors and shells put a byte order mark before it
    except UnicodeDecodeError:
        raise _wrong(address, places, f"{named}: is not UTF-8") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise _wrong(address, places, f"{named}: cannot be read: {why}") from None
    if len(content) > FILE_BYTES_MAX:
        raise _wrong(address, places, f"{named}: larger than {FILE_BYTES_MAX} bytes: name a file that holds one value")
    return text.removesuffix("\n").removesuffix("\r")


def _wrong(address: str, places: Places, said: str) -> UsageError:
    place = places.of(address.partition("[")[0])
    return UsageError(f"{place}: {address}: {said}")
