"""What the tests of deploy/ share: where a tool is, and every key of a YAML file to misspell."""

import os
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from repository import ROOT

DEPLOY = ROOT / "deploy"


def tool(name: str, expected_by: str) -> str:
    """Where a program is. Without it the tests are skipped, unless the environment has `expected_by`."""
    path = which(name) or ""
    if not path:
        assert not os.environ.get(expected_by), f"install {name}"
        pytest.skip(f"no {name} here")
    return path


def misspelt(tree: Any) -> Iterator[tuple[str, Any]]:
    """The tree once for each of its keys, with that key misspelt; and what was done."""
    for path in _paths(tree):
        copy = deepcopy(tree)
        node = copy
        for step in path[:-1]:
            node = node[step]
        wrong = f"{path[-1]}x"
        node[wrong] = node.pop(path[-1])
        yield ".".join(map(str, path)), copy


def _paths(node: Any, begin: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*begin, key)
            yield from _paths(value, (*begin, key))
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from _paths(value, (*begin, place))


def tracked(directory: Path) -> list[Path]:
    """The files of the project below a directory."""
    line = ["git", "ls-files", "-z", str(directory)]
    listing = subprocess.run(line, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return sorted(ROOT / name for name in listing.split("\0") if name)
