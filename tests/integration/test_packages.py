"""What a release consists of: the same bytes wherever it is built, and nothing that does not belong there."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from repository import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAME = f"unique_users-{PROJECT['version']}"
SECONDS = 120


def tool(name: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a program of this environment, whatever came of it."""
    program = str(Path(sys.executable).parent / name)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "NO_COLOR": "1"}
    return subprocess.run(
        [program, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
    )


def build(source: Path, output: Path, *arguments: str) -> Path:
    own = ["--python", sys.executable, "--no-build-isolation", "--offline", "--out-dir", str(output)]
    done = tool("uv", "build", "--quiet", *own, *arguments, str(source))
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of this checkout, and the wheel that was built from it."""
    return build(ROOT, tmp_path_factory.mktemp("dist"))


def sums(dist: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in dist.glob("unique_users-*")}


def tracked(*folders: str) -> set[str]:
    listing = subprocess.run(["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, check=True, text=True)
    return {name for name in listing.stdout.split("\0") if name and (ROOT / name).exists()}


def test_another_folder_another_umask_and_another_day_give_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    clone = tmp_path / "another" / "checkout"
    former = os.umask(0o077)
    try:
        for name in sorted(tracked(), reverse=True):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            (clone / name).write_bytes((ROOT / name).read_bytes())
            os.utime(clone / name, (1_000_000_000, 1_000_000_000))
        again = build(clone, tmp_path / "again")
    finally:
        os.umask(former)
    assert sums(again) == sums(dist)
    assert len(sums(dist)) == 2


def test_the_wheel_of_the_checkout_is_that_of_the_sdist(dist: Path, tmp_path: Path) -> None:
    straight = build(ROOT, tmp_path, "--wheel")
    assert sums(straight).items() <= sums(dist).items()


def test_the_sdist_has_what_the_wheel_is_built_from_and_no_more(dist: Path) -> None:
    with tarfile.open(dist / f"{NAME}.tar.gz") as packed:
        there = {member.name.removeprefix(f"{NAME}/") for member in packed if member.isfile()}
    files = {"CHANGELOG.md", "LICENSE", "README.md", "config.yaml", "pyproject.toml"}
    assert there == tracked("unique_users", "kafka-config") | files | {".gitignore", "PKG-INFO"}


def test_the_wheel_has_the_package_and_the_files_of_the_local_kafka(dist: Path) -> None:
    with zipfile.ZipFile(dist / f"{NAME}-py3-none-any.whl") as packed:
        there = {name for name in packed.namelist() if ".dist-info/" not in name}
    kafka = {name for name in tracked("kafka-config") if not name.endswith(".py")}
    assert there == tracked("unique_users") | {f"unique_users/local_kafka/{name}" for name in kafka}
    assert any(name.endswith("metrics.yml") for name in kafka)


def test_twine_accepts_both(dist: Path) -> None:
    checked = tool("twine", "check", "--strict", *map(str, sorted(dist.glob("unique_users-*"))))
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.count("PASSED") == 2


@pytest.fixture(scope="module")
def sbom(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_sbom(tmp_path_factory.mktemp("sbom") / "bom.json")


def make_sbom(output: Path) -> str:
    """Run the command of `make dist` that lists what the package needs."""
    arguments = arguments_of("cyclonedx-py")
    done = tool("cyclonedx-py", *arguments[:-1], str(output))
    assert done.returncode == 0, done.stderr
    return output.read_text(encoding="utf-8")


def arguments_of(program: str) -> list[str]:
    """The arguments that the Makefile gives a program."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = re.findall(rf"^\t\$\(BIN\)/{program} (.*)$", makefile, re.MULTILINE)
    return str(line).split()


def test_the_sbom_lists_every_pinned_package_with_its_checksums_and_is_valid(sbom: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom) is None
    bom = json.loads(sbom)
    pins = re.findall(r"^([a-z0-9-]+)==([^ \\;]+)", (ROOT / "requirements-all.txt").read_text(), re.MULTILINE)
    assert sorted((part["name"], part["version"]) for part in bom["components"]) == sorted(pins)
    assert all(part["externalReferences"][0]["hashes"] for part in bom["components"])
    about = bom["metadata"]["component"]
    assert (about["name"], about["version"]) == (PROJECT["name"], PROJECT["version"])


def test_the_sbom_has_the_same_bytes_each_time(sbom: str, tmp_path: Path) -> None:
    assert make_sbom(tmp_path / "again.json") == sbom


def test_a_sbom_that_is_not_valid_is_noticed(sbom: str) -> None:
    text = sbom.replace('"type": "library"', '"type": "libary"', 1)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is not None


def test_all_are_all_extras_for_users() -> None:
    extras = PROJECT["optional-dependencies"]
    named = {extra for line in extras["all"] for extra in re.search(r"\[(.+)\]", line)[1].split(",")}  # type: ignore[index]
    assert named == set(extras) - {"all", "dev"}
