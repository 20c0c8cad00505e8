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
import yaml

from unique_users.config import Config
from unique_users.config_checks import check
from unique_users.errors import UsageError


def load_config(path: str, overrides: Iterable[str] = (), environment: Mapping[str, str] = os.environ) -> Config:
    """Read and check the configuration in the YAML file `path`, with `section.key=value` overrides.

    Raises UsageError with the key's path and what to do, in one line.
    """
    tree = _read(path)
    source: dict[tuple[str, ...], str] = {}
    for override in overrides:
        source[_override(tree, override)] = f"--set {override.partition('=')[0]}"
    try:
        tree = _with_environment(tree, environment, path)
    except RecursionError:
        message = f"{path}: a section holds itself through an alias: write it out"
        raise UsageError(message) from None
    try:
        config = msgspec.convert(tree, Config, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(_explained(str(error), tree, path, source)) from None
    check(config, path)
    return config


def _read(path: str) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        message = f"{path}: no such file: give its place with --config FILE"
        raise UsageError(message) from None
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: cannot be read: {error}"
        raise UsageError(message) from None
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        message = f"{path}: expected sections like `kafka:` and `counter:`, got {tree!r:.60}"
        raise UsageError(message)
    return tree


def _override(tree: dict[str, Any], override: str) -> tuple[str, ...]:
    """Put `section.key=value` into the tree and return the key's path."""
    dotted, equals, text = override.partition("=")
    # The names below `kafka:` are the client's own and may hold dots.
    keys = tuple(dotted.split(".", 1) if dotted.startswith("kafka.") else dotted.split("."))
    if not equals or not all(keys):
        message = f"--set {override}: expected section.key=value, like --set counter.report_seconds=10"
        raise UsageError(message)
    if keys[1:] in {("bootstrap.servers",), ("bootstrap_servers",)} and keys[0] == "kafka":
        keys = ("kafka", "bootstrap_servers")
        if isinstance(tree.get("kafka"), dict):
            tree["kafka"].pop("bootstrap.servers", None)
    node = tree
    for key in keys[:-1]:
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            message = f"--set {override}: {key!r} is a value, not a section"
            raise UsageError(message)
        node = child
    try:
        node[keys[-1]] = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        node[keys[-1]] = text
    return keys


_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}")


def _with_environment(node: Any, environment: Mapping[str, str], source: str, address: str = "") -> Any:
    """Fill `${NAME}` in every text of the tree."""
    if isinstance(node, dict):
        return {
            key: _with_environment(value, environment, source, f"{address}.{key}".lstrip("."))
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
            message = (
                f"{source}: {address}: the environment variable {name} is not set:"
                f" set it, or write ${{{name}:-default}}"
            )
            raise UsageError(message)
        return value

    return _VARIABLE.sub(value_of, node)


_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?:key` in `)?\$\.?(?P<path>[^`]*)`)?$")
_WORDS = {
    "`int`": "a whole number",
    "`float`": "a number",
    "`str`": "a text",
    "`bool`": "true or false",
    "`object`": "a section with keys",
    "`array`": "a list",
    "`null`": "nothing",
}


def _explained(message: str, tree: dict[str, Any], path: str, sources: Mapping[tuple[str, ...], str]) -> str:
    """Say msgspec's complaint with the address of the key, the value it has, and the fix."""
    match = _AT.match(message)
    what, address = (match["what"], match["path"] or "") if match else (message, "")
    keys = tuple(key for key in address.split(".") if key)
    if (unknown := re.search(r"unknown field `(.+)`", what)) is not None:
        keys = (*keys, unknown[1])
        known = _known_keys(keys[:-1])
        near = difflib.get_close_matches(unknown[1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        said = f"unknown key: {hint}"
    else:
        for code, words in _WORDS.items():
            what = what.replace(code, words)
        said = what[:1].lower() + what[1:]
        if "got" not in said and "missing" not in said:
            said += f", got {_value_at(tree, keys)!r:.60}"
    return f"{sources.get(keys, path)}: {'.'.join(keys)}: {said}"


def _known_keys(keys: tuple[str, ...]) -> list[str]:
    section: Any = Config
    for key in keys:
        section = section.__annotations__.get(key, Config)
    return list(section.__struct_fields__)


def _value_at(tree: Any, keys: Iterable[str]) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
