"""What the containers read is right: their configuration, Prometheus's, Grafana's; and a typo in it is found."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import pytest
import yaml
from checking import COMPOSE, planted, run
from composed import mounts_of, resolved
from prometheus import binary
from repository import ROOT

from unique_users.config.load import load_config
from unique_users.config.schema import Config
from unique_users.errors import UsageError
from unique_users.metrics import Process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the tools that check them are not for Windows")
CONFIG = ROOT / "deploy" / "container" / "config.yaml"
DATASOURCE = ROOT / "deploy" / "grafana" / "provisioning" / "datasources" / "prometheus.yaml"
DASHBOARDS = ROOT / "deploy" / "grafana" / "provisioning" / "dashboards" / "unique-users.yaml"


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = resolved(COMPOSE)["services"]
    return found


def test_the_configuration_of_the_image_loads_and_serves_at_the_port_of_its_health_check() -> None:
    config = load_config(str(CONFIG), environment={})
    assert config == with_what_an_image_needs(config)
    assert load_config(str(CONFIG), environment={"KAFKA_BOOTSTRAP_SERVERS": "kafka:19092"}).bootstrap_servers == [
        "kafka:19092"
    ]
    assert (config.metrics.host, config.metrics.port) == ("0.0.0.0", 9400)
    assert config.state.directory == "/var/lib/unique-users"


@pytest.mark.parametrize(
    ("right", "wrong"), [("state:", "stat:"), ("directory", "directroy"), ("${METRICS_PORT", "$METRICS_PORT")]
)
def test_a_typo_in_the_configuration_of_the_image_is_found(right: str, wrong: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        load_config(str(planted(tmp_path, right, wrong, CONFIG)), environment={})


def test_what_the_program_imports_is_compiled_and_pythons_own_modules_too(tmp_path: Path) -> None:
    script = ROOT / "deploy" / "container" / "precompile.py"
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    subprocess.run([sys.executable, "-P", str(script)], cwd=tmp_path, env=environment, check=True, timeout=120)
    compiled = {path.name.partition(".")[0] for path in tmp_path.rglob("*.pyc")}
    assert {"recovery", "healthy", "follower", "selectors", "argparse", "codec"} <= compiled


def with_what_an_image_needs(config: Config) -> Config:
    """The defaults, but for where it listens and where it keeps what."""
    kept = [f"state.directory={config.state.directory}", f"broker.data={config.broker.data}"]
    listens = ["metrics.host=0.0.0.0", "metrics.port=9400", "dashboard.host=0.0.0.0"]
    return load_config("", [*listens, *kept], environment={})


def test_prometheus_scrapes_every_process_at_the_port_of_the_image(services: dict[str, Any]) -> None:
    jobs = yaml.safe_load((ROOT / "deploy" / "compose" / "prometheus.yml").read_text(encoding="utf-8"))
    port = load_config(str(CONFIG), environment={}).metrics.port
    wanted: tuple[Process, ...] = ("producer", "bucketer", "counter", "dashboard")
    assert {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs["scrape_configs"]} == {
        f"unique-users-{process}": [f"{process}:{port}"] for process in wanted
    }
    assert set(wanted) <= set(services)


@pytest.mark.parametrize(("right", "wrong", "code"), [("", "", 0), ("rule_files", "rules_file", 1)])
def test_promtool_knows_the_configuration(right: str, wrong: str, code: int, tmp_path: Path) -> None:
    planted(tmp_path, right, wrong, ROOT / "deploy" / "compose" / "prometheus.yml")
    (tmp_path / "alerts.yml").write_bytes((ROOT / "deploy" / "prometheus" / "alerts.yml").read_bytes())
    assert run(binary("promtool"), "check", "config", "prometheus.yml", cwd=tmp_path).returncode == code


def grafana_complaints(datasource: Path, dashboards: Path, services: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What Grafana would not find. There is no schema of these files: keys are those of its documentation."""
    (source,) = yaml.safe_load(datasource.read_text(encoding="utf-8"))["datasources"]
    (provider,) = yaml.safe_load(dashboards.read_text(encoding="utf-8"))["providers"]
    found = [f"unknown key {key}" for key in (*source.keys() - SOURCE_KEYS, *provider.keys() - PROVIDER_KEYS)]
    mounted = {mount.target for mount in mounts_of(services["grafana"])}
    if not any(target.startswith(f"{provider['options'].get('path')}/") for target in mounted):
        found.append(f"no dashboard is mounted at {provider['options']}")
    if source["url"].removeprefix("http://").partition(":")[0] not in services:
        found.append(f"no service at {source['url']}")
    return found + [f"type {source['type']}"] * (source["type"] != "prometheus")


SOURCE_KEYS = {"name", "uid", "type", "access", "url", "isDefault", "jsonData"}
PROVIDER_KEYS = {"name", "type", "allowUiUpdates", "options"}


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        (DATASOURCE, "http://prometheus:", "http://promtheus:"),
        (DATASOURCE, "isDefault", "isDefualt"),
        (DATASOURCE, "type: prometheus", "type: promtheus"),
        (DASHBOARDS, "/etc/grafana/dashboards", "/etc/grafana/dashboard"),
        (DASHBOARDS, "path:", "pat:"),
    ],
)
def test_grafana_finds_its_datasource_and_the_dashboard(
    file: Path, right: str, wrong: str, services: dict[str, Any], tmp_path: Path
) -> None:
    assert grafana_complaints(DATASOURCE, DASHBOARDS, services) == []
    copytree(ROOT / "deploy" / "grafana", tmp_path / "grafana", ignore=ignore_patterns("*.json"))
    typo = planted(tmp_path, right, wrong, file)
    datasource, dashboards = (typo if each == file else each for each in (DATASOURCE, DASHBOARDS))
    assert grafana_complaints(datasource, dashboards, services) != []
