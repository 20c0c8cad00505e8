"""The dashboard is what the list of metrics makes of it."""

import grafana_dashboard

from unique_users.metrics.declared import METRICS


def test_the_dashboard_is_up_to_date() -> None:
    text = grafana_dashboard.DOCUMENT.read_text(encoding="utf-8")
    assert text == grafana_dashboard.text(), "run `python tests/docs/grafana_dashboard.py`"


def test_every_metric_is_shown() -> None:
    shown = grafana_dashboard.text()
    assert [each.full_name for each in METRICS if each.full_name not in shown] == []


def test_no_two_panels_overlap() -> None:
    taken = [
        (place["x"] + across, place["y"] + down)
        for panel in grafana_dashboard.dashboard()["panels"]
        for place in [panel["gridPos"]]
        for across in range(place["w"])
        for down in range(place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(across for across, _ in taken) < grafana_dashboard.COLUMNS
