"""Arrows go one way: scripts → loops and edges → pure. The map is the docstring of unique_users."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import unique_users

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "unique_users"
MODULES = {path.stem: path for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
CLIENTS = {path.relative_to(PACKAGE / "clients").as_posix(): path for path in (PACKAGE / "clients").rglob("*.py")}
SCRIPTS = sorted(ROOT.glob("*.py"))
KAFKA_CLIENTS = {"kafka", "confluent_kafka"}
WORLD = {
    "asyncio", "ctypes", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random", "selectors", "shutil",
    "signal", "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib",
}  # fmt: skip


def the_map() -> dict[str, set[str]]:
    """The modules of each layer, by the first word of the layer's line."""
    layers: dict[str, set[str]] = {}
    for line in (unique_users.__doc__ or "").splitlines():
        layer, colon, rooms = line.partition(":  ")
        if colon:
            rooms = re.sub(r"\([^)]*\)", "", rooms)
            found = {name for name in re.findall(r"\w+", rooms) if name in {*MODULES, "clients"}}
            layers.setdefault(layer.split()[0], set()).update(found)
    return layers


MAP = the_map()
LOOPS = MAP["Loops"] | MAP["Parts"]


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, anywhere in it, by their full names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            module = node.module or ""
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if is_module(inner) else module


def is_module(name: str) -> bool:
    """Whether a full name is that of a module here, not of something in one."""
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def ours(path: Path) -> set[str]:
    """The modules of unique_users that a file imports; `clients.x` for the implementations."""
    return {name.removeprefix("unique_users.") for name in imports(path) if name.startswith("unique_users")}


def foreign(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path) if not name.startswith("unique_users")}


def test_the_map_names_every_module_once() -> None:
    named = [name for rooms in MAP.values() for name in rooms]
    assert sorted(named) == sorted({*MODULES, "clients"})
    assert set(MAP) == {"Pure", "Loops", "Parts", "Edges", "Around", "Local", "Its", "Demo"}


@pytest.mark.parametrize("name", sorted(MAP["Pure"]))
def test_pure_modules_import_nothing_of_the_world(name: str) -> None:
    path = MODULES[name]
    assert foreign(path) <= (sys.stdlib_module_names - WORLD) | {"datasketches", "msgspec", "orjson"}
    assert ours(path) <= MAP["Pure"]


@pytest.mark.parametrize("name", sorted(MAP["Pure"]))
def test_pure_modules_neither_print_nor_open_files(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"print", "open", "input", "exec", "eval", "__import__"}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not attributes & {"now", "today", "utcnow"} - {"now"} if name in {"clock", "rekey"} else not attributes & {
        "now", "today", "utcnow"
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(LOOPS))
def test_loops_import_no_implementation_of_an_edge(name: str) -> None:
    path = MODULES[name]
    allowed = MAP["Pure"] | LOOPS | {"clients", "config", "config_checks", "errors", "lifecycle"}
    assert ours(path) <= allowed
    assert not foreign(path) & ({"time", "socket", "sqlite3", "subprocess", "http"} | KAFKA_CLIENTS)


@pytest.mark.parametrize("name", sorted(MAP["Edges"] - {"clients"}))
def test_edges_do_not_import_loops(name: str) -> None:
    assert not ours(MODULES[name]) & LOOPS


@pytest.mark.parametrize("path", [*MODULES.values(), *SCRIPTS], ids=lambda path: path.name)
def test_only_the_clients_package_imports_a_kafka_client(path: Path) -> None:
    assert not foreign(path) & KAFKA_CLIENTS
    assert not {name for name in ours(path) if name.startswith("clients.")}


def test_each_kafka_client_is_imported_in_one_package() -> None:
    importers = {
        client: {name for name, path in CLIENTS.items() if client in foreign(path)} for client in KAFKA_CLIENTS
    }
    for client, package in (("kafka", "kafka_python"), ("confluent_kafka", "librdkafka")):
        assert importers[client]
        assert all(name.startswith(f"{package}/") for name in importers[client])


@pytest.mark.parametrize("name", sorted(name for name in CLIENTS if "/" in name))
def test_the_package_of_a_client_imports_nothing_of_another(name: str) -> None:
    own = f"clients.{name.partition('/')[0]}"
    inner = {other for other in ours(CLIENTS[name]) if other.startswith("clients.")}
    assert all(other == own or other.startswith(f"{own}.") for other in inner)


def test_every_package_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert set(project["tool"]["setuptools"]["packages"]) == packages


@pytest.mark.parametrize(
    "path", [*MODULES.values(), *CLIENTS.values()], ids=lambda path: path.relative_to(PACKAGE).as_posix()
)
def test_the_package_imports_no_script(path: Path) -> None:
    assert not foreign(path) & {script.stem for script in SCRIPTS}
