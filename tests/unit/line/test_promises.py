"""The table of promises in docs/testing.md names tests that exist."""

import re

from repository import ROOT


def test_every_test_that_the_docs_name_exists() -> None:
    modules = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", (ROOT / "docs/testing.md").read_text(encoding="utf-8"))
    assert named
    missing = [(module, test) for module, test in named if f"def {test}" not in modules.get(module, "")]
    assert not missing
