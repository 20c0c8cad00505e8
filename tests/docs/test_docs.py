"""The documents say what the program does: every key, reason, flag and target stands in them, and files exist."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import msgspec
import pytest
import yaml

from unique_users.aggregation.completeness import Why
from unique_users.commands import COMMANDS
from unique_users.config.load import load_config
from unique_users.config.schema import Config
from unique_users.event_time.buckets import INTERVALS
from unique_users.messages.frame import Reason

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = {path: path.read_text(encoding="utf-8") for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))}
ALL_TEXT = "\n".join(DOCUMENTS.values())
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
COMMAND_FILES = sorted((ROOT / "unique_users" / "commands").glob("[a-z]*.py"))
README_LINES_MAX = 200


def keys_of(section: object, address: str = "") -> list[str]:
    """The dotted addresses of all keys of a configuration struct."""
    if not isinstance(section, msgspec.Struct):
        return [address]
    fields = section.__struct_fields__
    return [key for name in fields for key in keys_of(getattr(section, name), f"{address}.{name}".lstrip("."))]


def test_config_yaml_holds_every_key_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert load_config("config.yaml", environment={}) == load_config("", environment={})
    tree = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    for key in keys_of(Config()):
        node = tree
        for name in key.split("."):
            assert name in node, f"config.yaml lacks {key}"
            node = node[name]


def rows_of(document: str, heading: str) -> set[str]:
    """What stands in backquotes in the first column of the tables below a heading."""
    section = (ROOT / "docs" / document).read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))


def test_the_reasons_for_rejection_are_those_of_the_program() -> None:
    assert rows_of("frames.md", "Reasons for rejection") == {reason.value for reason in Reason}


def test_the_reasons_why_a_bucket_is_not_whole_are_those_of_the_program() -> None:
    assert rows_of("design.md", "Marks") == {why.value for why in Why}


def test_the_intervals_are_those_of_the_program() -> None:
    keys = DOCUMENTS[ROOT / "docs" / "configuration.md"].splitlines()
    (kind,) = [line.split("|")[2] for line in keys if line.startswith("| `counter.intervals` |")]
    assert tuple(re.findall("`([^`]+)`", kind)) == INTERVALS
    formats = DOCUMENTS[ROOT / "docs" / "design.md"].split("## Formats\n")[1].split("\n## ")[0]
    assert [interval for interval in INTERVALS if f"`{interval}`" not in formats] == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_stands_in_the_readme(script: str) -> None:
    assert f"`{script}" in README


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_stands_in_the_readme(command: str) -> None:
    assert f"{command}.py" in SCRIPTS or f"unique-users {command}" in README


def flags_of(source: str) -> list[str]:
    """The flags that a module adds to a parser."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    added = [call.args for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"]
    values = [argument.value for arguments in added for argument in arguments if isinstance(argument, ast.Constant)]
    return sorted(value for value in values if isinstance(value, str) and value.startswith("--"))


def stands_in(flag: str, text: str) -> bool:
    """Whether a flag stands in a text as a whole word: `--to` does not stand in `--topic`."""
    return re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text) is not None


def what_the_readme_says_of(command: str) -> str:
    """The row of a command in the table of commands; of what all commands have in common, the paragraph above it."""
    commands = README.split("### Commands\n")[1].split("\n## ")[0]
    if command == "arguments":
        return commands.split("\n|")[0]
    starts = (f"| `{command}.py", f"| `unique-users {command}")
    (row,) = [line for line in commands.splitlines() if line.startswith(starts)]
    return row


@pytest.mark.parametrize("command", ["arguments", *COMMANDS])
def test_every_flag_of_a_command_stands_in_the_readme(command: str) -> None:
    source = (ROOT / "unique_users" / "commands" / f"{command}.py").read_text(encoding="utf-8")
    common = what_the_readme_says_of("arguments")
    said = what_the_readme_says_of(command) + common
    assert [flag for flag in flags_of(source) if not stands_in(flag, said)] == []


def test_flags_are_found() -> None:
    found = {flag for module in COMMAND_FILES for flag in flags_of(module.read_text(encoding="utf-8"))}
    assert {"--config", "--set", "--rate", "--drop", "--to", "--kafka-version", "--secure", "--all"} <= found


def test_a_flag_is_a_whole_word() -> None:
    assert stands_in("--to", "`--from TIME --to TIME`")
    assert not stands_in("--to", "--topic feed --to-offset 3 x--to")


def test_the_figures_in_the_readme_are_those_of_the_performance_document() -> None:
    numbers = README.split("## Numbers\n")[1]
    measured = {
        frozenset(cell.strip() for cell in line.split("|"))
        for line in DOCUMENTS[ROOT / "docs" / "performance.md"].splitlines()
        if line.startswith("|")
    }
    rows = [line for line in numbers.splitlines() if line.startswith("|") and re.search(r"\d", line)]
    assert rows
    for row in rows:
        figures = {cell.strip() for cell in row.split("|")[2:]} - {""}
        assert any(figures <= cells for cells in measured), row


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= README_LINES_MAX


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


def test_ruff_before_a_commit_is_the_ruff_of_the_project() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"ruff=={hooks['repos'][0]['rev'].removeprefix('v')}" in project["optional-dependencies"]["dev"]


def tracked() -> set[str]:
    """Every file of the repository and every folder that holds one, from the root, with a slash behind a folder."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    files = {Path(name) for name in listing.split("\0") if name}
    folders = {parent for file in files for parent in file.parents} - {Path()}
    return {file.as_posix() for file in files} | {f"{folder.as_posix()}/" for folder in folders}


def named_in(block: str) -> list[str]:
    """The paths in a listing, where what is indented lies in the folder above it."""
    paths, folder = [], ""
    for line in block.splitlines():
        names = re.findall(r"[a-z_./-]+(?:\.(?:py|yaml|yml)|/)(?=\s|$)", line)
        if not line.startswith(" "):
            folder = names[0] if len(names) == 1 and names[0].endswith("/") else ""
        paths += [folder + name if line.startswith(" ") else name for name in names]
    return paths


def test_the_layout_in_the_readme_is_the_layout() -> None:
    named = named_in(README.split("## Read the code")[1].split("```")[1])
    assert sorted(set(named) - tracked()) == []
    rooms = {path for path in tracked() if re.fullmatch(r"unique_users/[a-z_]+/", path)}
    assert sorted(rooms - set(named)) == []


def test_a_folder_that_git_does_not_know_is_no_layout() -> None:
    assert ".venv/" not in tracked()
    assert named_in("a.py  b/\nrooms/\n  hall/  attic/   under the roof\n") == [
        "a.py",
        "b/",
        "rooms/",
        "rooms/hall/",
        "rooms/attic/",
    ]


def test_the_glossary_has_each_term_once() -> None:
    glossary = DOCUMENTS[ROOT / "docs" / "glossary.md"]
    terms = re.findall(r"^\| ([^|`]+) \|", glossary, re.MULTILINE)
    terms = [term for term in terms if term not in {"term", "---"}]
    assert sorted(terms) == sorted(set(terms))
    assert {"watermark", "low watermark", "mark", "generation", "lag", "dead-letter topic"} <= set(terms)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_modules_that_a_document_names_exist(document: Path) -> None:
    named = set(re.findall(r"`([a-z_/]+\.py)`", DOCUMENTS[document]))
    known = tracked() | set(re.findall(r"<!-- file: (\S+) -->", DOCUMENTS[document]))  # the reader makes these
    assert sorted(name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in known)) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_are_written_as_they_are_installed(document: Path) -> None:
    text = DOCUMENTS[document]
    assert "``unique-users" not in text
    assert "unique_users.commands.state" not in text
    assert set(re.findall(r"unique-users (?!COMMAND)([a-z]+)", "\n".join(code_of(text)))) <= set(COMMANDS)
