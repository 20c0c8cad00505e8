"""compose.yaml is right, and a typo in it is found."""

import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from checking import COMPOSE, planted, run
from composed import in_order, is_ours, mounts_of, resolved
from repository import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the tools that check them are not for Windows")


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = resolved(COMPOSE)["services"]
    return found


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
    variables = [each for service in services.values() for each in service.get("environment", {}).items()]
    passwords = {name: value for name, value in variables if "PASSWORD" in name}
    assert passwords == {"POSTGRES_PASSWORD_FILE": "/run/secrets/postgres-password", "PGPASSWORD": ""}
    assert resolved(COMPOSE)["secrets"] == {"postgres-password": {"environment": "POSTGRES_PASSWORD"}}


def test_one_service_builds_the_image_and_the_others_take_it(services: dict[str, Any]) -> None:
    """Except for the export, whose image has more."""
    ours = {name: service for name, service in services.items() if is_ours(service)}
    assert {name for name, service in ours.items() if "build" in service} == {"bucketer", "export"}
    takers = {name: service for name, service in ours.items() if name not in {"bucketer", "export"}}
    assert {service["pull_policy"] for service in takers.values()} == {"never"}
    assert {service["image"] for service in takers.values()} == {ours["bucketer"]["image"]}
    arguments = dict(each.split("=", 1) for each in ours["export"]["build"]["args"])
    assert (ROOT / arguments["REQUIREMENTS"]).is_file()
    assert ours["export"]["image"] == f"{ours['bucketer']['image']}-postgres"


@pytest.mark.parametrize("name", ["bucketer", "counter", "dashboard", "producer", "recount", "sample", "export"])
def test_our_containers_may_write_nothing_but_their_volumes(name: str, services: dict[str, Any]) -> None:
    service = services[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in service
    assert "privileged" not in service
