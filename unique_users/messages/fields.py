"""Where a frame keeps a value: fields at its root or paths into nested objects, in order of preference. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from unique_users.messages.event_times import EventTimes

RECORD_KEY, RECORD_TIME = "$key", "$timestamp"  # of the Kafka record, in place of a field


class Field:
    """The names under which a value is looked up: one name, or several as fallbacks.

    A name with dots is looked up at the root as it is, then as a path. The first value that is present and neither null
    nor the empty string counts.
    """

    def __init__(self, names: str | Sequence[str]) -> None:
        self.names = (names,) if isinstance(names, str) else tuple(names)
        self.paths: list[tuple[str, ...]] = []
        for name in self.names:
            self.paths.append((name,))
            parts = tuple(name.split("."))
            if len(parts) > 1 and all(parts) and name not in {RECORD_KEY, RECORD_TIME}:
                self.paths.append(parts)

    def __str__(self) -> str:
        return " or ".join(map(repr, self.names))

    def missing(self) -> str:
        """What to say about a frame without it."""
        if self.names in {(RECORD_KEY,), (RECORD_TIME,)}:
            return "the record has no key" if self.names == (RECORD_KEY,) else "the record has no time"
        return f"no {self}" + (" at the root" if len(self.paths) == 1 else "")

    def json_paths(self) -> list[tuple[str, ...]]:
        """The paths into the frame, without the names of the record."""
        return [path for path in self.paths if path[0] not in {RECORD_KEY, RECORD_TIME}]

    def find(self, root: Mapping[str, Any], record: Mapping[str, object]) -> object:
        """The value in a decoded frame, or in `record` for names of the record itself; msgspec.UNSET if there is none.

        If all values present are null or empty, the first of them.
        """
        first: object = msgspec.UNSET  # of those that are null or empty
        for path in self.paths:
            value: Any = record if path[0] in record else root
            for name in path:
                value = value.get(name, msgspec.UNSET) if isinstance(value, Mapping) else msgspec.UNSET
            if value is not msgspec.UNSET and value is not None and value != "":
                return value
            if first is msgspec.UNSET:
                first = value
        return first


class RecordColumns(NamedTuple):
    """What the records of a batch hold besides their values; None if nobody needs it."""

    keys: Sequence[bytes | None] | None = None
    timestamps_ms: Sequence[int] | None = None  # -1: none

    def value(self, name: str, place: int, times: EventTimes) -> object:
        """The key or the time of a record, as a frame would hold it; msgspec.UNSET if it has none."""
        if name == RECORD_TIME:
            time = self.timestamps_ms[place] if self.timestamps_ms else -1
            return msgspec.UNSET if time < 0 else times.from_ms(time)
        key = self.keys[place] if self.keys else None
        return msgspec.UNSET if key is None else key.decode("utf-8", "surrogateescape")

    def of_all_in(self, place: int, count: int) -> "RecordColumns":
        """The same for each of `count` frames in one message."""
        keys, times = (
            self.keys and [self.keys[place]] * count,
            self.timestamps_ms and [self.timestamps_ms[place]] * count,
        )
        return RecordColumns(keys, times)


Getters = Mapping[tuple[str, ...], Callable[[Sequence[Any]], list[Any]]]  # of the values in many structs, by path
_Tree = dict[str, Any]  # by the names of keys: another _Tree, or a _Leaf


class _Leaf(NamedTuple):
    value_type: Any
    optional: bool


def struct_of(fields: Sequence[tuple[Field, Any]]) -> tuple[type, list[Getters]]:
    """A msgspec struct that holds the values of `fields`, each with its type, and the getters of each field.

    Frames do not fit the struct if they have an object where a value is expected, or the other way round, or lack a
    field with one name. Of a field with several names, each missing one is msgspec.UNSET. Raises ValueError if two
    fields have a name in common.
    """
    tree: _Tree = {}
    leaves = [(path, _Leaf(kind, len(field.paths) > 1)) for field, kind in fields for path in field.json_paths()]
    # If a name is both a value and an object, the longer path is left out.
    reachable = {path for path, leaf in sorted(leaves, key=lambda found: len(found[0])) if _insert(tree, path, leaf)}
    getters: list[Getters] = [
        {path: _getter(_attributes(tree, path)) for path in field.json_paths() if path in reachable}
        for field, _ in fields
    ]
    return _struct(tree), getters


def _getter(attributes: Sequence[str]) -> Callable[[Sequence[Any]], list[Any]]:
    # Compiled, because this costs half as much as operator.attrgetter; the names of the attributes are our own.
    return eval(f"lambda frames: [frame.{'.'.join(attributes)} for frame in frames]")  # type: ignore[no-any-return]  # noqa: S307


def _insert(tree: _Tree, path: Sequence[str], leaf: _Leaf) -> bool:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
        if isinstance(tree, _Leaf):
            return False
    if path[-1] in tree:
        raise ValueError(f"{'.'.join(path)!r} stands for two things")
    tree[path[-1]] = leaf
    return True


def _attributes(tree: _Tree, path: Sequence[str]) -> list[str]:
    """The names of the attributes on the way to a path; keys need not be identifiers."""
    found = []
    for name in path:
        found.append(f"key{list(tree).index(name)}")
        tree = tree[name]
    return found


def _struct(tree: _Tree) -> type:
    fields: list[Any] = []
    for number, inner in enumerate(tree.values()):
        attribute = f"key{number}"
        if isinstance(inner, _Leaf):
            optional = (inner.value_type | None, msgspec.UNSET)
            fields.append((attribute, *optional) if inner.optional else (attribute, inner.value_type))
        else:
            node = _struct(inner)
            fields.append((attribute, node, node()))
    rename = {f"key{number}": name for number, name in enumerate(tree)}
    return msgspec.defstruct("Frame", fields, rename=rename, kw_only=True, frozen=True, gc=False)
