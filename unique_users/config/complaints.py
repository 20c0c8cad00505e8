"""Restates what msgspec says about a wrong tree: the place, the key, what was expected, what was found."""

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from unique_users.config.places import Places
from unique_users.config.schema import Config
from unique_users.config.values import PATTERNS
from unique_users.config.yaml_text import Keys

# Keys of earlier versions, and their current names.
RENAMED = {("bucketer", "retention_seconds"): "bucketer.allowed_lateness_seconds"}

# Whose values no message shows. Those of the `kafka:` section are not checked here.
SECRET = {("postgres", "dsn"), ("postgres", "password")}

# The characters of a key. Anything else may be a value where a key should be.
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,79}", re.ASCII)

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


def explained(message: str, tree: Any, places: Places) -> str:
    """Restate msgspec's complaint with the key's address, its value and the fix."""
    match = _AT.fullmatch(message)
    what, address = (match["what"], match["path"] or "") if match else (message, "")
    keys = tuple(key for key in re.sub(r"\[[0-9.]+\]", "", address).split(".") if key)
    if (unknown := re.search(r"unknown field `(.+)`", what, re.DOTALL)) is not None:
        keys = (*keys, unknown[1])
        said = _about_an_unknown_key(keys)
    else:
        said = _about_a_value(what, keys, tree)
    return f"{places.of_keys(keys)}: {'.'.join(map(shown, keys))}: {said}"


def shown(key: object) -> str:
    """A key, as shown in a message."""
    return key if isinstance(key, str) and KEY.fullmatch(key) else "?"


def meant(name: str, known: Iterable[str]) -> str:
    """What to add to the complaint about an unknown name: the most similar known one, if any is similar."""
    near = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {near[0]!r}?" if near else ""


def _about_an_unknown_key(keys: Keys) -> str:
    if keys in RENAMED:
        return f"is {RENAMED[keys]} now: rename it"
    known = _known_keys(keys[:-1])
    if near := meant(keys[-1], known):
        return f"unknown key{near}"
    if elsewhere := [address for address in _addresses(Config) if address.rpartition(".")[2] == keys[-1]]:
        return f"unknown key: did you mean {' or '.join(elsewhere[:3])}?"
    return f"unknown key; the keys here are {', '.join(known)}"


def _about_a_value(what: str, keys: Keys, tree: Any) -> str:
    for pattern, words in PATTERNS.items():
        what = what.replace(f"`str` matching regex {pattern!r}", words)
    for code, words in _WORDS.items():
        what = what.replace(code, words)
    said = what[:1].lower() + what[1:]
    if (wrong := re.fullmatch(r"invalid enum value '?(.*?)'?", said, re.DOTALL)) is not None:
        said = f"expected one of {', '.join(_choices(_type_at(keys)))}, got {wrong[1]!r:.60}"
    if "got" not in said and "missing" not in said and keys not in SECRET:
        said += f", got {_value_at(tree, keys)!r:.60}"
    return said


def _type_at(keys: Iterable[str]) -> Any:
    """The type of a key, as declared."""
    kind: Any = Config
    for key in keys:
        fields = {field.name: field.type for field in msgspec.structs.fields(kind)} if _is_section(kind) else {}
        kind = _without_none(fields.get(key))
    return kind


def _choices(kind: Any) -> list[str]:
    """The values that a type with choices can have, also if it is inside a list."""
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    inner = get_args(kind)[:1] if get_origin(kind) is Annotated else get_args(kind)
    return [choice for part in inner for choice in _choices(part)]


def _known_keys(keys: Iterable[str]) -> list[str]:
    section = _type_at(keys)
    return [field.name for field in msgspec.structs.fields(section if _is_section(section) else Config)]


def _addresses(section: Any, above: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(section):
        if _is_section(kind := _without_none(field.type)):
            yield from _addresses(kind, f"{above}{field.name}.")
        else:
            yield f"{above}{field.name}"


def _without_none(kind: Any) -> Any:
    """The section, if it is one that may be left out."""
    return next((part for part in get_args(kind) if _is_section(part)), kind)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _value_at(tree: Any, keys: Iterable[str]) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
