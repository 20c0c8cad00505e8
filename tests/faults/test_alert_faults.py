"""What the scripts that hold the alerts against faults and a healthy day conclude from what they see."""

import alert_cases
import healthy_day
import pytest
import yaml
from prometheus import RULES, seconds_of, with_for_scaled

RULES_TEXT = RULES.read_text(encoding="utf-8")
NAMES = {rule["alert"] for group in yaml.safe_load(RULES_TEXT)["groups"] for rule in group["rules"]}


@pytest.mark.parametrize(
    ("times", "longest"),
    [([0.0], 0), ([0.0, 15.0, 30.0], 30), ([0.0, 15.0, 60.0, 75.0, 90.0, 105.0], 45), ([0.0, 60.0, 120.0], 0)],
)
def test_a_streak_is_the_longest_time_without_a_break(times: list[float], longest: float) -> None:
    assert healthy_day.streak(times) == longest


def test_a_rule_fires_when_it_is_true_for_as_long_as_it_asks() -> None:
    assert healthy_day.Evaluated("", 60, 60).fires
    assert not healthy_day.Evaluated("", 60, 45).fires
    assert not healthy_day.Evaluated("", 0, -1).fires


def test_scaling_changes_each_for_and_nothing_else() -> None:
    assert (seconds_of("1m30s"), seconds_of("1h")) == (90, 3_600)
    before, after = (
        yaml.safe_load(text)["groups"][0]["rules"] for text in (RULES_TEXT, with_for_scaled(RULES_TEXT, 0.2))
    )
    for rule, scaled in zip(before, after, strict=True):
        assert seconds_of(scaled["for"]) == seconds_of(rule["for"]) / 5
        assert {**rule, "for": ""} == {**scaled, "for": ""}


def test_the_faults_name_alerts_that_exist() -> None:
    assert {name for case in alert_cases.CASES for name in case.fires | case.also} <= NAMES
