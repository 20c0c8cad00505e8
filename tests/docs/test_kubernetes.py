"""The files for Kubernetes are valid, fit together and the program, and a misspelt key in any of them is found."""

import re
import subprocess
from functools import cache
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml
from deployment import DEPLOY, misspelt, tool, tracked
from kafka import KafkaConsumer
from kubernetes_resources import WORKLOADS, Tree, kustomization_mistakes, mistakes
from kubernetes_validate import utils
from prometheus_rule import NOT_RUN, RULE, prometheus_rule
from system import merged

from unique_users.commands import COMMANDS
from unique_users.config.load import load_config
from unique_users.config.schema import Config
from unique_users.dashboard.access import TOKEN_CHARACTERS_MIN, TOKEN_NAME
from unique_users.errors import UsageError
from unique_users.metrics.declared import ALL
from unique_users.runtime.watchdog import CLOSE_SECONDS

KUBERNETES = DEPLOY / "kubernetes"
BASE, MONITORING, EXAMPLE = KUBERNETES / "base", KUBERNETES / "monitoring", KUBERNETES / "example"
KUSTOMIZATIONS = [folder / "kustomization.yaml" for folder in (BASE, MONITORING, EXAMPLE)]
CONFIGURATIONS = [BASE / "config.yaml", EXAMPLE / "config.yaml"]
PATCH = EXAMPLE / "counter.yaml"
SECRETS = KUBERNETES / "secrets.example.yaml"
RESOURCES = [*sorted(BASE.glob("[bdn]*.yaml")), BASE / "counter.yaml", *sorted(MONITORING.glob("[ps]*.yaml"))]
RESOURCES.append(EXAMPLE / "namespace.yaml")
VERSIONS = ("1.27", "1.37")  # the oldest and the newest that are tested
TOPIC_SETTINGS = {"min.insync.replicas"}


@pytest.fixture(autouse=True)
def schemas_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "schema_contents", cache(utils.schema_contents))


def trees_of(path: Path) -> list[Tree]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


ALL_TREES = {path: trees_of(path) for path in RESOURCES}
SECRET_TREES = trees_of(SECRETS)


def everything(changed: Path | None = None, place: int = 0, tree: Tree | None = None) -> list[Tree]:
    """All resources, one of them changed."""
    found = []
    for path, trees in ALL_TREES.items():
        found += [tree if tree and (path, place) == (changed, n) else each for n, each in enumerate(trees)]
    return found


MADE = yaml.safe_load(prometheus_rule((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8")))


def wrong_with(trees: list[Tree], version: str = VERSIONS[-1], suspect: Tree | None = None) -> list[str]:
    """All mistakes in resources, the rule's included, which is made from the alerts."""
    rules = [tree for tree in trees if tree.get("kind") == "PrometheusRule"]
    return mistakes(trees, version, SECRET_TREES, suspect) or ([] if rules == [MADE] else ["not the alerts"])


def test_every_file_is_tested_here() -> None:
    assert tracked(KUBERNETES) == sorted([*RESOURCES, *KUSTOMIZATIONS, *CONFIGURATIONS, PATCH, SECRETS])


@pytest.mark.parametrize("version", VERSIONS)
def test_the_resources_are_valid_and_fit_together(version: str) -> None:
    assert wrong_with(everything(), version) == []


@pytest.mark.parametrize("path", RESOURCES, ids=lambda path: path.name)
def test_a_misspelt_key_of_a_resource_is_found(path: Path) -> None:
    planted = 0
    for place, tree in enumerate(ALL_TREES[path]):
        for where, wrong in misspelt(tree):
            assert wrong_with(everything(path, place, wrong), suspect=wrong), where
            planted += 1
    assert planted > 3


def test_the_rule_for_prometheus_is_the_alerts() -> None:
    alerts = (DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    assert RULE.read_text(encoding="utf-8") == prometheus_rule(alerts), "run `python tests/docs/prometheus_rule.py`"
    assert alerts.count(NOT_RUN) == 1
    assert RULE.read_text(encoding="utf-8").count("alert:") == alerts.count("alert:") - 1
    jobs = {tree["metadata"]["name"] for tree in everything() if tree["kind"] == "Service"}
    assert jobs == {f"unique-users-{process}" for process in ALL} - {"unique-users-producer"}


@pytest.mark.parametrize("tree", [tree for tree in everything() if tree["kind"] in WORKLOADS])
def test_a_pod_may_do_little_and_ends_in_time(tree: Tree) -> None:
    pod = tree["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10_001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["terminationGracePeriodSeconds"] > 2 * CLOSE_SECONDS
    paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}


@pytest.mark.parametrize("tree", [tree for tree in everything() if tree["kind"] in WORKLOADS])
@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.parent.name)
def test_the_arguments_of_a_pod_are_those_of_the_program(tree: Tree, path: Path) -> None:
    (container,) = tree["spec"]["template"]["spec"]["containers"]
    command, *arguments = container["args"]
    assert command in COMMANDS
    assert tree["metadata"]["name"] == f"unique-users-{command}"
    assert arguments[:2] == ["--config", "/etc/unique-users/config.yaml"]
    flags, values = arguments[2::2], arguments[3::2]
    assert set(flags) <= {"--set"}
    config = configuration(path, values)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["metrics"] == config.metrics.port
    assert ports.get("http", config.dashboard.port) == config.dashboard.port
    assert config.metrics.host == config.dashboard.host == "0.0.0.0"
    if command == "counter":
        assert config.kafka["group_instance_id"] == "$(POD_NAME)"
        assert Path(config.state.directory).as_posix() in {mount["mountPath"] for mount in container["volumeMounts"]}
    else:  # the names of its pods change
        assert "group_instance_id" not in config.kafka


def configuration(path: Path, overrides: list[str] | None = None) -> Config:
    """The configuration as a pod has it. Raises UsageError; AssertionError for a name that Kafka does not know."""
    names = {name: "x" for tree in SECRET_TREES for name in tree["stringData"]}
    config = load_config(str(path), overrides or [], names)
    assert config.kafka.keys() <= KafkaConsumer.DEFAULT_CONFIG.keys()
    defaults = Config().topics
    for name in ("feed", "bucketed", "counts", "rejected"):
        known = TOPIC_SETTINGS | getattr(defaults, name).settings.keys()
        assert getattr(config.topics, name).settings.keys() <= known
    return config


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.parent.name)
def test_a_misspelt_key_of_a_configuration_is_found(path: Path, tmp_path: Path) -> None:
    configuration(path)
    copy = tmp_path / "config.yaml"
    for where, wrong in misspelt(yaml.safe_load(path.read_text(encoding="utf-8"))):
        copy.write_text(yaml.safe_dump(wrong))
        with pytest.raises((UsageError, AssertionError)):
            assert configuration(copy), where


def test_every_secret_is_read_by_something() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in CONFIGURATIONS)
    read = {*re.findall(r"\$\{([A-Z_]+)\}", text), TOKEN_NAME}
    assert {name for tree in SECRET_TREES for name in tree["stringData"]} == read
    assert not any(value for tree in SECRET_TREES for value in tree["stringData"].values())
    assert f"at least {TOKEN_CHARACTERS_MIN} characters" in SECRETS.read_text(encoding="utf-8")
    assert mistakes(SECRET_TREES, VERSIONS[0], []) == []
    for tree in SECRET_TREES:
        for where, wrong in misspelt(tree):
            names = set(wrong.get("stringData", {}))
            assert mistakes([wrong], VERSIONS[0], []) or not names <= read, where


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_a_misspelt_key_of_a_kustomization_is_found(path: Path) -> None:
    (tree,) = trees_of(path)
    assert kustomization_mistakes(tree, path.parent) == []
    for where, wrong in misspelt(tree):
        assert kustomization_mistakes(wrong, path.parent), where


def patched(patch: Tree) -> list[str]:
    """What is wrong with the resources once the patch is merged into what it names."""
    names = [(tree["kind"], tree["metadata"]["name"]) for tree in ALL_TREES[BASE / PATCH.name]]
    try:
        place = names.index((patch["kind"], patch["metadata"]["name"]))
    except (KeyError, ValueError):
        return ["it changes nothing"]
    return wrong_with(everything(BASE / PATCH.name, place, merged(ALL_TREES[BASE / PATCH.name][place], patch)))


def test_a_misspelt_key_of_the_patch_is_found() -> None:
    (patch,) = trees_of(PATCH)
    assert patched(patch) == []
    for where, wrong in misspelt(patch):
        assert patched(wrong), where


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    copytree(KUBERNETES, tmp_path / "kubernetes")
    return tmp_path / "kubernetes"


def built(folder: Path) -> tuple[int, str]:
    """What `kubectl kustomize` makes, and its exit code."""
    line = [tool("kubectl", "EXPECT_KUBECTL"), "kustomize", str(folder)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout if done.returncode == 0 else done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_what_kustomize_makes_of_the_example_is_valid(version: str) -> None:
    code, said = built(EXAMPLE)
    assert code == 0, said
    trees: list[Any] = list(yaml.safe_load_all(said))
    for tree in trees:
        assert tree["metadata"].get("namespace", "unique-users") == "unique-users"
        tree["metadata"].pop("namespace", None)
    assert wrong_with(trees, version) == []
    replicas = {tree["metadata"]["name"]: tree["spec"]["replicas"] for tree in trees if tree["kind"] in WORKLOADS}
    assert replicas == {"unique-users-bucketer": 3, "unique-users-counter": 3, "unique-users-dashboard": 1}
    assert said.count("image: registry.example.org/unique-users:0.2.0") == 3
    assert "storageClassName: fast" in said
    (name,) = {tree["metadata"]["name"] for tree in trees if tree["kind"] == "ConfigMap"}
    assert said.count(f"name: {name}") == 4


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_kustomize_refuses_a_misspelt_key(path: Path, copy: Path) -> None:
    (tree,) = trees_of(path)
    for where, wrong in misspelt({key: tree[key] for key in tree if key not in {"apiVersion", "kind"}}):
        (copy / path.relative_to(KUBERNETES)).write_text(yaml.safe_dump(wrong))
        assert built(copy / path.relative_to(KUBERNETES).parent)[0] != 0, where
