"""Writes the alerts of deploy/prometheus/alerts.yml into a PrometheusRule for Kubernetes.

    python tests/docs/prometheus_rule.py

Without the rules for a job that the files there do not run.
"""

from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
RULE = DEPLOY / "kubernetes" / "monitoring" / "prometheus-rule.yaml"
NOT_RUN = 'absent(up{job="unique-users-producer"})'
HEAD = """\
# Made by tests/docs/prometheus_rule.py from deploy/prometheus/alerts.yml: change that, and run it again.
# UniqueUsersProducerDown is left out: no producer runs here.
"""


def prometheus_rule(alerts: str) -> str:
    """The resource for these alerts."""
    groups = yaml.safe_load(alerts)["groups"]
    for group in groups:
        group["rules"] = [rule for rule in group["rules"] if NOT_RUN not in rule["expr"]]
    tree: dict[str, Any] = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "unique-users", "labels": {"app.kubernetes.io/name": "unique-users"}},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.safe_dump(tree, sort_keys=False, width=120)


def main() -> None:
    """Write it again."""
    RULE.write_text(prometheus_rule(ALERTS.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
