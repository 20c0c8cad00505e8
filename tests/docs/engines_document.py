"""Writes the table of engines into docs/engines.md: `python tests/docs/engines_document.py`."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "bench"), str(ROOT / "bench/peers")]

import engines_table  # noqa: E402

DOCUMENT = ROOT / "docs" / "engines.md"
FOUND = ROOT / "docs" / "performance" / "engines.json"
BEGIN, END = "<!-- engines -->\n", "<!-- engines end -->\n"


def with_table(text: str) -> str:
    """The document with the table of what was measured last."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{engines_table.table(json.loads(FOUND.read_text(encoding='utf-8')))}\n\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
