"""The alerts are well formed, fire when they should, have a runbook each, and ask only for metrics that exist."""

import re
import subprocess

import pytest
import yaml
from prometheus import JOB, RULES, binary
from repository import ROOT

from unique_users.metrics.declared import ALL, METRICS

PROMETHEUS = RULES.parent
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
ALERTS = [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
NAMES = [rule["alert"] for rule in ALERTS]


@pytest.mark.parametrize(
    "line",
    [
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_finds_nothing(line: tuple[str, ...]) -> None:
    done = subprocess.run([binary("promtool"), *line], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", ALERTS, ids=NAMES)
def test_an_alert_says_what_it_is_and_links_to_its_runbook(rule: dict[str, dict[str, str]]) -> None:
    said = rule["annotations"]
    assert said["summary"]
    assert said["description"]
    assert said["runbook_url"].endswith(f"docs/operations.md#{str(rule['alert']).lower()}")
    assert f"\n### {rule['alert']}\n" in OPERATIONS
    assert rule["labels"]["severity"] in {"critical", "warning"}


def test_each_runbook_is_of_an_alert_in_the_order_of_the_rules() -> None:
    assert re.findall(r"^### (UniqueUsers\w+)$", OPERATIONS, re.MULTILINE) == NAMES


@pytest.mark.parametrize("rule", ALERTS, ids=NAMES)
def test_each_rule_is_tested_with_series_that_fire(rule: dict[str, str]) -> None:
    tests = (PROMETHEUS / "alerts.test.yml").read_text(encoding="utf-8")
    assert f'alertname="{rule["alert"]}"' in tests


def test_rules_ask_for_metrics_and_jobs_that_exist() -> None:
    text = RULES.read_text(encoding="utf-8")
    known = {each.full_name for each in METRICS}
    assert set(re.findall(r"\bunique_users_\w+", text)) <= known
    jobs = {JOB.format(process) for process in ALL}
    assert set(re.findall(r'job="([^"]+)"', text)) <= jobs
    scraped = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert {each["job_name"] for each in scraped} == jobs
    assert all(f'absent(up{{job="{job}"}})' in text for job in jobs)
