"""The table of metrics says what is declared, and names follow the field's conventions."""

import re

import metrics_table
import pytest

from unique_users.metrics.declared import METRICS, Declared


def test_the_table_holds_every_metric() -> None:
    text = metrics_table.DOCUMENT.read_text(encoding="utf-8")
    assert text == metrics_table.with_table(text), "run `python tests/docs/metrics_table.py`"


@pytest.mark.parametrize("each", METRICS, ids=lambda each: each.name)
def test_a_metric_has_a_plain_name_a_base_unit_and_help(each: Declared) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", each.name)
    assert not re.search(r"(milli|micro|minutes?$|hours?$|kilo|mega|percent|_total$)", each.name)
    assert each.help.endswith(".")
    assert not {"uid", "user", "minute", "bucket", "offset"} & set(each.labels)


def test_no_two_metrics_share_a_name() -> None:
    assert len({each.name for each in METRICS}) == len(METRICS)
