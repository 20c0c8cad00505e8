"""What is wrong with resources for Kubernetes: by their schemas, and by each other where a schema leaves names free."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from repository import ROOT

Tree = dict[str, Any]
DEFINITIONS = ROOT / "tests" / "data" / "prometheus-operator"
WORKLOADS = {"Deployment", "StatefulSet"}
LABELS = {
    "app.kubernetes.io/name",
    "app.kubernetes.io/component",
    "kubernetes.io/metadata.name",
    "pod-security.kubernetes.io/enforce",
}
QUANTITIES = {"cpu", "memory", "storage"}
NAMES = {"name", "namespace", "labels", "annotations"}

# What a kustomization may hold here; for a part that is a list of mappings, their keys.
KUSTOMIZE: dict[str, set[str]] = {
    **{key: set() for key in ("apiVersion", "kind", "namespace", "resources")},
    "configMapGenerator": {"name", "behavior", "files"},
    "images": {"name", "newName", "newTag"},
    "patches": {"path"},
    "replicas": {"name", "count"},
}


def mistakes(trees: Sequence[Tree], version: str, secrets: Sequence[Tree], suspect: Tree | None = None) -> list[str]:
    """All that is wrong with these resources, which use these secrets, in this version of Kubernetes.

    If one of them is suspect, the others are known to be valid.
    """
    try:
        wrong = [said for tree in ([suspect] if suspect else trees) for said in against_schema(tree, version)]
        return wrong or list(against_each_other(trees, secrets))
    except (KeyError, TypeError, AttributeError) as error:  # something that the others need is missing
        return [repr(error)]


def against_schema(tree: Tree, version: str) -> list[str]:
    """What the schema of its kind says: an unknown key is wrong, too."""
    try:
        if tree["apiVersion"].startswith("monitoring.coreos.com/"):
            _definition(tree["kind"]).validate(tree)
        else:
            kubernetes_validate.validate(tree, version, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    except (kubernetes_validate.SchemaNotFoundError, KeyError) as error:
        return [f"no schema of {error}"]
    return []


@cache
def _definition(kind: str) -> jsonschema.Draft202012Validator:
    """The schema of a kind of the Prometheus operator, in which no key is allowed that it does not name."""
    tree = yaml.safe_load((DEFINITIONS / f"{kind.lower()}s.yaml").read_text(encoding="utf-8"))
    schema: Tree = tree["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object", "properties": {name: {} for name in NAMES}}
    _close(schema)
    return jsonschema.Draft202012Validator(schema)


def _close(schema: Any) -> None:
    if isinstance(schema, list):
        for part in schema:
            _close(part)
    elif isinstance(schema, dict):
        for part in schema.values():
            _close(part)
        if isinstance(pattern := schema.get("pattern"), str):
            schema["pattern"] = pattern.replace("^(?i)", "(?i)^")  # Go's form, then Python's
        if isinstance(schema.get("properties"), dict) and "x-kubernetes-preserve-unknown-fields" not in schema:
            schema.setdefault("additionalProperties", False)


def against_each_other(trees: Sequence[Tree], secrets: Iterable[Tree]) -> Iterator[str]:
    """Names and labels that lead nowhere."""
    pods = [tree["spec"]["template"] for tree in trees if tree["kind"] in WORKLOADS]
    services = {tree["metadata"]["name"]: tree for tree in trees if tree["kind"] == "Service"}
    ports = {port["name"] for pod in pods for port in _container(pod)["ports"]}
    for tree in trees:
        kind, spec = tree["kind"], tree.get("spec", {})
        yield from _unknown_keys(tree["metadata"] if kind == "PrometheusRule" else tree)
        selected = [pod for pod in pods if _selects(_selector(tree), pod["metadata"]["labels"])]
        if kind in WORKLOADS:
            yield from _in_pod(spec, {secret["metadata"]["name"] for secret in secrets})
            if spec["selector"]["matchLabels"] != spec["template"]["metadata"]["labels"]:
                yield "a workload selects other pods"
        if kind in {"Service", "PodDisruptionBudget"} and len(selected) != 1:
            yield f"{kind} {tree['metadata']['name']} selects {len(selected)} workloads"
        if kind == "NetworkPolicy" and not selected:
            yield "a network policy for no pod"
        if kind == "StatefulSet" and spec["serviceName"] not in services:
            yield "a StatefulSet without its Service"
        used = {port.get("targetPort", port["port"]) for port in spec.get("ports", [])} if kind == "Service" else set()
        used |= {port["port"] for rule in spec.get("ingress", []) for port in rule["ports"]}
        if used - ports:
            yield f"no ports {used - ports}"
        if kind == "ServiceMonitor":
            found = [each for each in services.values() if _selects(_selector(tree), each["metadata"]["labels"])]
            wanted = {endpoint["port"] for endpoint in spec["endpoints"]}
            if not found or any(wanted - {port["name"] for port in each["spec"]["ports"]} for each in found):
                yield "a ServiceMonitor asks for services or ports that do not exist"


def _container(pod: Tree) -> Tree:
    (container,) = pod["spec"]["containers"]
    return dict(container)


def _selector(tree: Tree) -> Tree:
    spec = tree.get("spec", {})
    selector: Tree = spec.get("podSelector") or spec.get("selector") or {}
    labels: Tree = selector.get("matchLabels", selector)
    return labels


def _selects(selector: Tree, labels: Tree) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def _in_pod(spec: Tree, secrets: set[str]) -> Iterator[str]:
    """Names within one workload."""
    pod = spec["template"]
    container = _container(pod)
    probes = [container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")]
    if {probe["httpGet"]["port"] for probe in probes} - {port["name"] for port in container["ports"]}:
        yield "a probe of no port"
    claims = [claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])]
    volumes = {*claims, *(volume["name"] for volume in pod["spec"]["volumes"])}
    if {mount["name"] for mount in container["volumeMounts"]} != volumes:
        yield "volumes and mounts differ"
    wanted = {each["secretRef"]["name"] for each in container["envFrom"]}
    if not wanted <= secrets:
        yield f"no secret {wanted - secrets}"
    known = {f"$({each['name']})" for each in container.get("env", [])}
    unknown = [arg for arg in container["args"] if "$(" in arg and arg.partition("=")[2] not in known]
    if unknown:
        yield f"no variable for {unknown}"


def _unknown_keys(node: Any, key: str = "") -> Iterator[str]:
    """Labels and quantities, whose keys a schema leaves free."""
    if isinstance(node, list):
        for part in node:
            yield from _unknown_keys(part, key)
    if not isinstance(node, dict):
        return
    free = {"labels": LABELS, "matchLabels": LABELS, "requests": QUANTITIES, "limits": QUANTITIES}
    flat_selector = key == "selector" and not node.keys() & {"matchLabels", "matchExpressions"}
    if key in free or flat_selector:
        allowed = LABELS if flat_selector else free[key]
        if not node.keys() <= allowed or (allowed is QUANTITIES and not node):
            yield f"{key}: unknown {node.keys() - allowed}"
        return
    for name, value in node.items():
        yield from _unknown_keys(value, name)


def kustomization_mistakes(tree: Tree, folder: Path) -> list[str]:
    """What is wrong with a kustomization; kubectl, where it is, says more."""
    wrong = [f"unknown key {key}" for key in tree.keys() - KUSTOMIZE.keys()]
    parts = [(key, part) for key in KUSTOMIZE for part in tree.get(key, []) if isinstance(part, dict)]
    wrong += [f"{key}: unknown keys" for key, part in parts if not part.keys() <= KUSTOMIZE[key]]
    wrong += [f"{key}: no name or path" for key, part in parts if not part.keys() & {"name", "path"}]
    files = [*tree.get("resources", []), *(part.get("path", "") for part in tree.get("patches", []))]
    files += [name for part in tree.get("configMapGenerator", []) for name in part.get("files", ["no files"])]
    wrong += [f"no file {name}" for name in files if not (folder / name).exists()]
    return wrong + [f"no {key}" for key in ("apiVersion", "kind", "resources") if key not in tree]
