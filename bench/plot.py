"""A bar chart as SVG, without a library: names, numbers, bars."""

from collections.abc import Mapping
from html import escape

WIDTH, ROW, NAME = 820, 28, 250


def bars(values: Mapping[str, float], title: str) -> str:
    """Horizontal bars, the shortest first."""
    rows = sorted(values.items(), key=lambda row: row[1])
    scale = (WIDTH - NAME - 70) / max(values.values())
    height = ROW * (len(rows) + 2)
    size = f'width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="14">',
        f'<rect {size} fill="white"/><text x="10" y="22" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (name, value) in enumerate(rows, 1):
        y = ROW * number + 10
        parts.append(
            f'<text x="{NAME - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{NAME}" y="{y}" width="{value * scale:.1f}" height="{ROW - 8}" fill="#3b7dd8"/>'
            f'<text x="{NAME + value * scale + 6:.1f}" y="{y + 15}">{value:.1f}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])
