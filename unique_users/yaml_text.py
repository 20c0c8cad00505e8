"""YAML written by people. An error names the place and never shows a piece of the text, which may be a password."""

import re
from typing import Any

import yaml


class WrongYamlError(Exception):
    """What is wrong with a text, and where: nothing of the text itself."""


def tree_of(text: str) -> Any:
    """The tree that a YAML text means. Raises WrongYamlError."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        message = f"not YAML: {place}{_without_text(error.problem or '')}"
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        message = f"not YAML: line {line}, column {column}: a character that YAML does not allow"
    raise WrongYamlError(message)


class _Loader(yaml.SafeLoader):
    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - as in PyYAML
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError, TypeError, OverflowError):
            # `!!bool x`, `2016-13-45`: PyYAML's own errors for these are of any kind, and show the value.
            problem = "found a value that its type does not have"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


def _without_text(problem: str) -> str:
    """PyYAML's words for what is wrong, up to where it quotes the text."""
    if problem.startswith("found character"):
        return "found a character that cannot start a value: put the value in quotes"
    wanted = problem.partition(", but ")[0]
    if wanted.startswith(("expected ", "could not find expected ")):
        return wanted  # what is quoted here are marks of the language
    return re.split("['\"]", problem, maxsplit=1)[0].strip(" :;,") or "it cannot be read"
