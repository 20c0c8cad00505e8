"""YAML written by people. An error names the place but never quotes the text, which may be a password."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

TEXT_BYTES_MAX = 262_144  # of a file
DEPTH_MAX = 32
NODES_MAX = 10_000  # keys and values; an alias counts as everything it stands for
WHOLE_NUMBER_BITS_MAX = 63


class WrongYamlError(Exception):
    """What is wrong with a YAML text, and where, without quoting it."""


Keys = tuple[str, ...]


def tree_of(text: str) -> Any:
    """Parse a YAML text. Raises WrongYamlError."""
    return tree_and_lines(text)[0]


def tree_and_lines(text: str) -> tuple[Any, dict[Keys, int]]:
    """Parse a YAML text; also returns the line of each key, by its path. Raises WrongYamlError."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines = dict(_lines(node, ()))
        return None if node is None else loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        message = f"not valid YAML: {place}{_without_text(error.problem or '')}"
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        message = f"not valid YAML: line {line}, column {column}: a character that YAML does not allow"
    raise WrongYamlError(message)


def _lines(node: yaml.Node | None, above: Keys) -> Iterator[tuple[Keys, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                keys = (*above, key.value)
                yield keys, key.start_mark.line + 1
                yield from _lines(value, keys)


class _Loader(yaml.SafeLoader):
    """Refuses trees that are far too large before they are built, and keys that appear twice in a section.

    Times stay strings.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0
        self._sizes: dict[int, int] = {}  # by the identity of finished nodes

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        before = self._nodes
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise _refusal(f"nested in more than {DEPTH_MAX} levels", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not isinstance(event, yaml.AliasEvent):
            self._nodes += 1
            self._sizes[id(node)] = self._nodes - before
        elif id(node) not in self._sizes:
            raise _refusal("a section holds itself through an alias: write it out", event)
        else:
            self._nodes += self._sizes[id(node)]
        if self._nodes > NODES_MAX:
            raise _refusal(f"more than {NODES_MAX} keys and values", event)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in lines:
                message = f"line {line}: this key is already set in line {lines[name]}: remove one of them"
                raise WrongYamlError(message)
            lines[name] = line
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - as in PyYAML
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError, TypeError, OverflowError):
            # `!!bool x`, `2016-13-45`: PyYAML raises errors of any type here, and they show the value.
            wrong = True
        else:
            wrong = isinstance(value, int) and value.bit_length() > WHOLE_NUMBER_BITS_MAX
        if wrong:
            problem = "found a value that its type does not have"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return value


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _refusal(problem: str, event: yaml.Event) -> yaml.MarkedYAMLError:
    mark: Any = event.start_mark
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _without_text(problem: str) -> str:
    """PyYAML's description of the problem, up to where it quotes the text."""
    if problem.startswith("found character"):
        return "found a character that cannot start a value: put the value in quotes"
    wanted = problem.partition(", but ")[0]
    if wanted.startswith(("expected ", "could not find expected ")):
        return wanted  # it quotes only marks of the language here
    return re.split("['\"]", problem, maxsplit=1)[0].strip(" :;,") or "it cannot be read"
