"""Reading the configuration: once, from YAML, `--set` and the environment.

Values may hold `${NAME}` and `${NAME:-default}` from the environment.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from unique_users.config.checks import check, check_kafka_names
from unique_users.config.schema import PATTERNS, Config
from unique_users.config.yaml_text import TEXT_BYTES_MAX, WrongYamlError, tree_of
from unique_users.errors import UsageError

# Keys of earlier versions, and their names now.
RENAMED = {("bucketer", "retention_seconds"): "bucketer.allowed_lateness_seconds"}


def load_config(path: str, overrides: Iterable[str] = (), environment: Mapping[str, str] = os.environ) -> Config:
    """Read and check the configuration in the YAML file `path`, with `section.key=value` overrides.

    Without a path, every key that is not overridden has its default.

    Raises UsageError: one line with the key's path and what to do.
    """
    tree = _read(path) if path else {}
    source: dict[tuple[str, ...], str] = {}
    for override in overrides:
        source[_override(tree, override)] = f"--set {override.partition('=')[0]}"
    check_kafka_names(tree.get("kafka"), path)
    tree = _with_environment(tree, environment, path)
    try:
        config = msgspec.convert(tree, Config, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(_explained(str(error), tree, path, source)) from None
    check(config, path)
    return config


def _read(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            content = file.read(TEXT_BYTES_MAX + 1)
        if len(content) > TEXT_BYTES_MAX:
            message = f"{path}: larger than {TEXT_BYTES_MAX} bytes, too large for a configuration: name another file"
            raise UsageError(message)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        message = f"{path}: no such file: name it with --config FILE"
        raise UsageError(message) from None
    except UnicodeDecodeError as error:
        message = f"{path}: cannot be read: line {error.object[: error.start].count(10) + 1} is not UTF-8"
        raise UsageError(message) from None
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror or type(error).__name__}"
        raise UsageError(message) from None
    try:
        tree = tree_of(text)
    except WrongYamlError as error:
        message = f"{path}: {error}"
        raise UsageError(message) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        message = f"{path}: expected sections like `kafka:` and `counter:`, got {_kind(tree)}"
        raise UsageError(message)
    return tree


def _kind(tree: object) -> str:
    return "a list" if isinstance(tree, list) else "one value"


# Characters of a key. Anything else may be a value in the place of a key.
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,79}", re.ASCII)


def _override(tree: dict[str, Any], override: str) -> tuple[str, ...]:
    """Put `section.key=value` into the tree and return the key's path."""
    dotted, equals, text = override.partition("=")
    # The names below `kafka:` belong to the client and may contain dots.
    keys = tuple(dotted.split(".", 1) if dotted.startswith("kafka.") else dotted.split("."))
    if not equals or not all(map(_KEY.fullmatch, keys)):
        # What was given may be a value, and a secret.
        message = "--set: expected section.key=value, like --set counter.report_seconds=10"
        raise UsageError(message)
    if keys[1:] in {("bootstrap.servers",), ("bootstrap_servers",)} and keys[0] == "kafka":
        keys = ("kafka", "bootstrap_servers")
        if isinstance(tree.get("kafka"), dict):
            tree["kafka"].pop("bootstrap.servers", None)
    node = tree
    for key in keys[:-1]:
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            message = f"--set {dotted}: {key!r} is a value, not a section"
            raise UsageError(message)
        node = child
    try:
        node[keys[-1]] = tree_of(text)
    except WrongYamlError:
        node[keys[-1]] = text
    return keys


_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}")


def _with_environment(node: Any, environment: Mapping[str, str], source: str, address: str = "") -> Any:
    """Fill in `${NAME}` in every string of the tree."""
    if isinstance(node, dict):
        return {
            key: _with_environment(value, environment, source, f"{address}.{_shown(key)}".lstrip("."))
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_with_environment(value, environment, source, f"{address}[]") for value in node]
    if not isinstance(node, str):
        return node

    def value_of(variable: re.Match[str]) -> str:
        name, default = variable["name"], variable["default"]
        value = environment.get(name)
        if default is not None:
            return value or default.removeprefix(":-")
        if value is None:
            # If it is not the whole value, it may be a password that only looks like a variable.
            shown = name if variable[0] == node or not address.startswith("kafka.") else "NAME"
            what = f"the environment variable {name}" if shown == name else "an environment variable in it"
            message = f"{source}: {address}: {what} is not set: set it, or write ${{{shown}:-default}}"
            raise UsageError(message)
        return value

    return _VARIABLE.sub(value_of, node)


def _shown(key: object) -> str:
    """A key, as shown in a message."""
    return key if isinstance(key, str) and _KEY.fullmatch(key) else "?"


_AT = re.compile(r"(?P<what>.*?)(?: - at `(?:key` in `)?\$\.?(?P<path>[^`]*)`)?", re.DOTALL)
_WORDS = {
    "`int`": "a whole number",
    "`float`": "a number",
    "`str`": "a string",
    "`bool`": "true or false",
    "`object`": "a section with keys",
    "`array`": "a list",
    "`str | array`": "a string or a list of strings",
    "`date`": "a day like 2000-01-01",
    "`datetime`": "a time",
    "Invalid RFC3339 encoded date": "expected a day like 2000-01-01",
    "`null`": "nothing",
}


def _explained(message: str, tree: dict[str, Any], path: str, sources: Mapping[tuple[str, ...], str]) -> str:
    """Restate msgspec's complaint with the key's address, its value and the fix."""
    match = _AT.fullmatch(message)
    what, address = (match["what"], match["path"] or "") if match else (message, "")
    keys = tuple(key for key in re.sub(r"\[[0-9.]+\]", "", address).split(".") if key)
    if (unknown := re.search(r"unknown field `(.+)`", what, re.DOTALL)) is not None:
        keys = (*keys, unknown[1])
        known = _known_keys(keys[:-1])
        if keys in RENAMED:
            return f"{sources.get(keys, path)}: {'.'.join(keys)}: is {RENAMED[keys]} now: rename it"
        near = difflib.get_close_matches(unknown[1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        said = f"unknown key: {hint}"
    else:
        for pattern, words in PATTERNS.items():
            what = what.replace(f"`str` matching regex {pattern!r}", words)
        for code, words in _WORDS.items():
            what = what.replace(code, words)
        said = what[:1].lower() + what[1:]
        if (wrong := re.fullmatch(r"invalid enum value '(.*)'", said, re.DOTALL)) is not None:
            said = f"not one of the values that it can have, got {wrong[1]!r:.60}"
        if "got" not in said and "missing" not in said:
            said += f", got {_value_at(tree, keys)!r:.60}"
    return f"{sources.get(keys, path)}: {'.'.join(map(_shown, keys))}: {said}"


def _known_keys(keys: tuple[str, ...]) -> list[str]:
    section: Any = Config
    for key in keys:
        section = section.__annotations__.get(key, Config)
    return list(section.__struct_fields__)


def _value_at(tree: Any, keys: Iterable[str]) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
