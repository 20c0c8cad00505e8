"""Reading the configuration: once, from YAML, `--set` and the environment.

Values may hold `${NAME}` and `${NAME:-default}` from the environment, and `${file:/PATH}`, the content of a file.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from unique_users.config.checks import check
from unique_users.config.complaints import KEY, explained
from unique_users.config.kafka_section import check_kafka_names, normal
from unique_users.config.names import named, placed
from unique_users.config.places import Places, path_of
from unique_users.config.schema import Config
from unique_users.config.variables import filled_in
from unique_users.config.yaml_text import TEXT_BYTES_MAX, Keys, WrongYamlError, tree_and_lines, tree_of
from unique_users.errors import UsageError


def load_config(path: str, overrides: Iterable[str] = (), environment: Mapping[str, str] = os.environ) -> Config:
    """Read and check the configuration in the YAML file `path`, with `section.key=value` overrides.

    Without a path, every key that is not overridden has its default. Names have the prefix `name`, and paths are
    relative to the working directory.

    Raises UsageError: one line with the key's path and what to do.
    """
    tree, lines = _read(path) if path else ({}, {})
    places = Places(path, lines)
    for override in overrides:
        places.override(_override(tree, override))
    check_kafka_names(tree.get("kafka"), places)
    tree = filled_in(tree, environment, places)
    try:
        config = msgspec.convert(tree, Config, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(explained(str(error), tree, places)) from None
    check(config, places)
    return placed(named(config, places), places)


def _read(path: str) -> tuple[dict[str, Any], dict[Keys, int]]:
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
        tree, lines = tree_and_lines(text)
    except WrongYamlError as error:
        message = f"{path}: {error}"
        raise UsageError(message) from None
    if tree is None:
        return {}, {}
    if not isinstance(tree, dict):
        message = f"{path}: expected sections like `kafka:` and `counter:`, got {_kind(tree)}"
        raise UsageError(message)
    return tree, lines


def _kind(tree: object) -> str:
    return "a list" if isinstance(tree, list) else "one value"


def _override(tree: dict[str, Any], override: str) -> Keys:
    """Put `section.key=value` into the tree and return the key's path."""
    dotted, equals, text = override.partition("=")
    keys = path_of(dotted)
    if not equals or not all(map(KEY.fullmatch, keys)):
        # What was given may be a value, and a secret.
        message = "--set: expected section.key=value, like --set counter.report_seconds=10"
        raise UsageError(message)
    if keys[0] == "kafka" and len(keys) > 1:
        if normal(keys[1]) == "bootstrap_servers":
            keys = ("kafka", "bootstrap_servers")
        _forget_other_spellings(tree.get("kafka"), keys[1])
    node = tree
    for key in keys[:-1]:
        if node.get(key) is None:  # also a section that is left out
            node[key] = {}
        child = node[key]
        if not isinstance(child, dict):
            message = f"--set {dotted}: {key!r} is a value, not a section"
            raise UsageError(message)
        node = child
    try:
        node[keys[-1]] = tree_of(text)
    except WrongYamlError:
        may_be_a_password = keys[0] in {"kafka", "postgres"}
        if not may_be_a_password and text.lstrip().startswith(("[", "{")):
            message = (
                f"--set {dotted}: this list or section is not valid YAML: put it in quotes, as in --set 'key=[a, b]'"
            )
            raise UsageError(message) from None
        node[keys[-1]] = text
    return keys


def _forget_other_spellings(section: object, name: str) -> None:
    """Remove a client's setting, however the file spells its name, so that the override counts."""
    if isinstance(section, dict):
        for other in [key for key in section if isinstance(key, str) and normal(key) == normal(name)]:
            del section[other]
