"""Writes the table of all metrics into docs/metrics.md: `python tests/docs/metrics_table.py`."""

from pathlib import Path

from unique_users.metrics.declared import ALL, METRICS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
BEGIN, END = "<!-- metrics -->\n", "<!-- metrics end -->\n"


def table() -> str:
    """The table, a row for each metric in the order of their declaration."""
    rows = ["\n| metric | kind | labels | of | what it is |", "|---|---|---|---|---|"]
    for each in METRICS:
        labels = ", ".join(f"`{label}`" for label in each.labels)
        of = "all" if each.processes == ALL else ", ".join(each.processes)
        rows.append(f"| `{each.full_name}` | {each.kind} | {labels} | {of} | {each.help} |")
    return "\n".join([*rows, "", ""])


def with_table(text: str) -> str:
    """The document with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
