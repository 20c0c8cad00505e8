"""Makes the Grafana dashboard from the list of metrics: `python tests/docs/grafana_dashboard.py`."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unique_users.metrics.declared import METRICS, Declared

DOCUMENT = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "dashboard.json"
RATE = "$__rate_interval"
COLUMNS, WIDTH, HEIGHT = 24, 8, 7
SOURCE = {"type": "prometheus", "uid": "${source}"}
QUANTILES = (0.5, 0.99)
ROWS: dict[tuple[str, ...], str] = {("bucketer",): "Bucketer", ("counter",): "Counter", ("dashboard",): "Live page"}
Query = tuple[str, str]  # an expression and the legend of its series

FIRST: list[tuple[str, str, str, list[Query]]] = [
    ("Alerts that fire", "See the runbook in docs/operations.md.", "short",
     [('ALERTS{alertname=~"UniqueUsers.*", alertstate="firing"}', "{{alertname}} {{instance}}")]),
    ("Processes", "1 while a process answers.", "short", [('up{job=~"unique-users-.*"}', "{{job}} {{instance}}")]),
    ("Lag", "The longest wait of each topic.", "s",
     [("max by (topic) (unique_users_lag_seconds)", "{{topic}}")]),
]  # fmt: skip


def queries(each: Declared) -> list[Query]:
    """What to ask of a metric: a rate, quantiles, an age or its value."""
    by = ", ".join(["job", *each.labels])
    legend = " ".join(f"{{{{{label}}}}}" for label in ("job", *each.labels))
    name = each.full_name
    if each.kind == "counter":
        return [(f"sum by ({by}) (rate({name}[{RATE}]))", legend)]
    if each.kind == "histogram":
        rates = f"sum by ({by}, le) (rate({name}_bucket[{RATE}]))"
        return [(f"histogram_quantile({q}, {rates})", f"{legend} {q:.0%}") for q in QUANTILES]
    value = f"time() - {name}" if "_timestamp_" in name else name
    return [(value, f"{legend} {{{{instance}}}}")]


def unit(each: Declared) -> str:
    """Grafana's name for the unit of what is shown."""
    if each.kind == "counter":
        return "Bps" if "bytes" in each.name else "cps"
    return "s" if each.name.endswith("_seconds") else "bytes" if each.name.endswith("_bytes") else "short"


def title(each: Declared) -> str:
    """The name of a metric as words, with what is shown of it."""
    words = each.name.replace("_timestamp_seconds", ": age").removesuffix("_seconds").replace("_", " ")
    shown = {"counter": " per second", "histogram": ": median and 99 %", "gauge": ""}
    return words[0].upper() + words[1:] + shown[each.kind]


def panel(number: int, place: dict[str, int], name: str, about: str, of: str, asked: Sequence[Query]) -> dict[str, Any]:
    """A time series."""
    return {
        "id": number,
        "type": "timeseries",
        "title": name,
        "description": about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": of, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + n), "expr": expression, "legendFormat": legend}
            for n, (expression, legend) in enumerate(asked)
        ],
    }


def panels() -> Iterator[dict[str, Any]]:
    """A row for what is looked at first, one for what processes have in common, and one for each of them."""
    rows: dict[str, list[tuple[str, str, str, list[Query]]]] = {"At a glance": FIRST, "Traffic": []}
    for each in METRICS:
        row = ROWS.get(each.processes, "Traffic")
        rows.setdefault(row, []).append((title(each), each.help, unit(each), queries(each)))
    number = y = 0
    for row, shown in rows.items():
        number += 1
        place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": row, "collapsed": False, "gridPos": place, "panels": []}
        y += 1
        for n, what in enumerate(shown):
            down, across = divmod(n * WIDTH, COLUMNS)
            place = {"x": across, "y": y + down * HEIGHT, "w": WIDTH, "h": HEIGHT}
            number += 1
            yield panel(number, place, *what)
        y += -(-len(shown) * WIDTH // COLUMNS) * HEIGHT


def dashboard() -> dict[str, Any]:
    """All of it, as Grafana imports it."""
    return {
        "uid": "unique-users",
        "title": "Unique users",
        "tags": ["unique-users"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}],
        },
        "panels": list(panels()),
    }


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    DOCUMENT.parent.mkdir(parents=True, exist_ok=True)
    DOCUMENT.write_text(text(), encoding="utf-8")
