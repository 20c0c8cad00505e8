"""What docs/operations.md quotes of the program's lines is what the program says."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
WORDS_MIN = 5  # characters of a piece that is worth looking for
OTHERS_SAY = "database or disk is full\n"  # SQLite


def said() -> str:
    """All strings of the program; what is filled in is left out."""
    found: list[str] = []
    for path in (ROOT / "unique_users").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                found.append(node.value if isinstance(node.value, str) else node.value.decode(errors="replace"))
    return "\n".join(found)


def quoted(guide: str) -> list[str]:
    """The lines in the first column of the first table."""
    _, _, rest = guide.partition("## What a script says")
    table, _, _ = rest.partition("\n## ")
    return re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)


def not_said(line: str, program: str) -> list[str]:
    """The pieces of a line, between what is filled in, that the program does not say."""
    pieces = re.split(r"…|\b[NM]\b|'[^']*'|=[a-z]+|\.?sqlite|[:;,(]| so ", line)
    return [piece.strip() for piece in pieces if len(piece.strip()) >= WORDS_MIN and piece.strip() not in program]


def test_every_quoted_line_is_one_that_the_program_says() -> None:
    program = said() + OTHERS_SAY
    assert {line: wrong for line in quoted(GUIDE) if (wrong := not_said(line, program))} == {}


def test_a_line_that_changed_is_noticed() -> None:
    assert not_said("waiting for a Kafka server at …", said()) == ["waiting for a Kafka server at"]
    assert not_said("waiting for a Kafka broker at …", said()) == []


def test_lines_are_quoted() -> None:
    assert {"waiting for a Kafka broker at …", "had N partitions, now it has M"} <= set(quoted(GUIDE))
