"""YAML written by people. An error names the place but never quotes the text, which may be a password."""

import re
from typing import Any

import yaml

TEXT_BYTES_MAX = 262_144  # of a file
DEPTH_MAX = 32
NODES_MAX = 10_000  # keys and values; an alias counts as everything it stands for
WHOLE_NUMBER_BITS_MAX = 63


class WrongYamlError(Exception):
    """What is wrong with a YAML text, and where, without quoting it."""


def tree_of(text: str) -> Any:
    """Parse a YAML text. Raises WrongYamlError."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        message = f"not valid YAML: {place}{_without_text(error.problem or '')}"
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        message = f"not valid YAML: line {line}, column {column}: a character that YAML does not allow"
    raise WrongYamlError(message)


class _Loader(yaml.SafeLoader):
    """Refuses trees that are far too large before they are built."""

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
