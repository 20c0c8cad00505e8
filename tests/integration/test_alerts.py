"""A real Prometheus and a real Alertmanager beside the running system."""

import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from harness import new_broker
from observed import Observed, Stream
from prometheus import JOB, RULES, Alertmanager, Prometheus, Webhook, binary, until, with_for_scaled
from repository import ROOT

from unique_users.metrics.declared import ALL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FOR_SCALE = 1 / 60


class Watched(NamedTuple):
    """The system and who looks at it."""

    observed: Observed
    prometheus: Prometheus
    webhook: Webhook


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """With a broker that no other test keeps busy: what is slow there would be told as well."""
    for names in (("prometheus",), ("alertmanager", "prometheus-alertmanager")):
        binary(*names)
    directory = tmp_path_factory.mktemp("watched")
    rules = with_for_scaled(RULES.read_text(encoding="utf-8"), FOR_SCALE)
    stream = Stream(lambda: 50.0)
    with (
        new_broker(directory / "kafka") as kafka,
        Observed(directory / "system", kafka.bootstrap_servers) as observed,
        Webhook() as webhook,
        Alertmanager(directory / "alertmanager", webhook.address) as alertmanager,
    ):
        observed.start_all(stream)
        targets = {JOB.format(process): port for process, port in observed.ports.items()}
        manager = f"127.0.0.1:{alertmanager.port}"
        with Prometheus(directory / "prometheus", targets, rules, alertmanager=manager) as prometheus:
            yield Watched(observed, prometheus, webhook)
        stream.end()


def test_every_process_is_scraped(watched: Watched) -> None:
    wanted = {JOB.format(process) for process in ALL}
    found = until(lambda: len(up := watched.prometheus.query("up == 1")) == len(ALL) and up, "all")
    assert {series["metric"]["job"] for series in found} == wanted


def test_every_query_of_the_dashboard_has_an_answer(watched: Watched) -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert asked
    for expression in asked:
        query = expression.replace("$__rate_interval", "1m")
        if query.startswith("ALERTS"):
            watched.prometheus.query(query)  # nothing fires
        else:
            until(lambda query=query: watched.prometheus.query(query), query)  # type: ignore[misc]


def test_a_killed_counter_is_told_and_so_is_its_return(watched: Watched) -> None:
    webhook, alert = watched.webhook, "UniqueUsersCounterDown"
    watched.observed.workers["counter"].kill()
    until(lambda: webhook.states(alert), "the alert")
    assert [(each["labels"]["alertname"], each["status"]) for each in webhook.alerts] == [(alert, "firing")]
    (told,) = webhook.alerts
    assert told["labels"]["severity"] == "critical"
    assert told["annotations"]["runbook_url"].endswith("docs/operations.md#uniqueuserscounterdown")
    watched.observed.start("counter")
    until(lambda: webhook.states(alert)[-1] == "resolved", "its end")
    assert {each["labels"]["alertname"] for each in webhook.alerts} == {alert}
