"""The documents say what the program does: every key, reason, flag and target stands in them, and files exist."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest
import yaml

from unique_users.config.load import load_config
from unique_users.config.schema import Config
from unique_users.messages.frame import Reason

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
ALL_TEXT = "\n".join(DOCUMENTS.values())
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))


def keys_of(section: object, address: str = "") -> list[str]:
    """The dotted addresses of all keys of a configuration struct."""
    if not isinstance(section, msgspec.Struct):
        return [address]
    fields = section.__struct_fields__
    return [key for name in fields for key in keys_of(getattr(section, name), f"{address}.{name}".lstrip("."))]


def test_config_yaml_holds_every_key_with_its_default() -> None:
    assert load_config(str(ROOT / "config.yaml"), environment={}) == load_config(str(empty_config()), environment={})
    tree = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    for key in keys_of(Config()):
        node = tree
        for name in key.split("."):
            assert name in node, f"config.yaml lacks {key}"
            node = node[name]


def empty_config() -> Path:
    return Path(__file__).with_name("empty.yaml")


@pytest.mark.parametrize("reason", [reason.value for reason in Reason])
def test_every_reason_of_rejection_is_explained(reason: str) -> None:
    assert f"`{reason}`" in ALL_TEXT


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_and_its_flags_stand_in_the_readme(script: str) -> None:
    assert f"{script}" in README
    for flag in re.findall(r'add_argument\(\s*"(--[a-z-]+)"', (ROOT / script).read_text(encoding="utf-8")):
        assert flag in ALL_TEXT, f"{script} {flag}"


def test_every_make_target_that_a_document_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(code_of(ALL_TEXT)))) <= targets


def code_of(text: str) -> list[str]:
    return re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", DOCUMENTS[document]):
        assert (document.parent / target).exists(), target


def test_the_pins_the_project_file_and_conda_are_in_step() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = dict(re.findall(r"^([a-z0-9-]+)==([^ \\;]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    for requirement in project["dependencies"]:
        name, _, version = requirement.partition("==")
        name = re.split(r"[><=]", name)[0]
        assert name in pins, f"requirements.txt lacks {name}: run `make lock`"
        assert not version or pins[name] == version, f"requirements.txt has {name} {pins[name]}: run `make lock`"
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert conda["name"] == "doodle"
    assert f"python{project['requires-python']}" in conda["dependencies"]
    assert {"pip": ["--requirement requirements.txt"]} in conda["dependencies"]


def test_the_layout_in_the_readme_is_the_layout() -> None:
    block = README.split("## Read the code")[1].split("```")[1]
    named = re.findall(r"[a-z_.-]+\.(?:py|yaml|yml)|[a-z_-]+/", block)
    for name in named:
        assert list(ROOT.glob(f"**/{name.rstrip('/')}")), name
