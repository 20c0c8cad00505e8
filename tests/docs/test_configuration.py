"""docs/configuration.md has every key of the configuration with its default, and no other key."""

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from unique_users.config.complaints import RENAMED
from unique_users.config.schema import Config

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")


def defaults_of(section: object, address: str = "") -> dict[str, object]:
    """The dotted address of every key of a configuration struct, and its default."""
    if not isinstance(section, msgspec.Struct):
        return {address: section}
    return {
        key: value
        for name in section.__struct_fields__
        for key, value in defaults_of(getattr(section, name), f"{address}.{name}".lstrip(".")).items()
    }


def documented(text: str) -> dict[str, tuple[str, str, str]]:
    """Type, default and effect of every key in the tables; the default of a key without one is empty."""
    rows: dict[str, tuple[str, str, str]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        key = re.fullmatch(r"`([a-z_.]+)`", cells[0])
        if not line.startswith("|") or key is None:
            continue
        assert len(cells) == len(["key", "type", "default", "effect"]), line
        assert key[1] not in rows, f"{key[1]} stands twice"
        rows[key[1]] = (cells[1], cells[2].strip("`"), cells[3])
    return rows


def shown(default: object) -> str:
    """A default as YAML on one line."""
    dumped = yaml.safe_dump(default, default_flow_style=True, width=1_000).removesuffix("\n").removesuffix("\n...")
    return re.sub(r"\.0$", "", dumped)


def complaints(text: str) -> list[str]:
    rows, defaults = documented(text), defaults_of(Config())
    found = [f"{key} is missing" for key in defaults if key not in rows]
    found += [f"{key} has no type or effect" for key, (kind, _, effect) in rows.items() if not kind or not effect]
    found += [
        f"{key}: its default is {shown(value)}"
        for key, value in defaults.items()
        if key in rows and rows[key][1] != shown(value)
    ]
    return found + [f"{key} is not a key" for key in rows if key not in defaults and not key.startswith("kafka.")]


def test_every_key_stands_there_with_its_default() -> None:
    assert complaints(TEXT) == []


def test_a_missing_key_is_noticed() -> None:
    for key in defaults_of(Config()):
        without = "\n".join(line for line in TEXT.splitlines() if not line.startswith(f"| `{key}` |"))
        assert f"{key} is missing" in complaints(without)


def test_a_wrong_default_and_an_unknown_key_are_noticed() -> None:
    wrong = TEXT.replace("| `86400` |", "| `86401` |").replace("`state.directory`", "`state.folder`")
    assert {
        "state.directory is missing",
        "bucketer.allowed_lateness_seconds: its default is 86400",
        "state.folder is not a key",
    } <= set(complaints(wrong))


@pytest.mark.parametrize(("former", "now"), RENAMED.items())
def test_every_renamed_key_is_explained(former: tuple[str, ...], now: str) -> None:
    (sentence,) = re.findall(rf"`{re.escape('.'.join(former))}` is now `([a-z_.]+)`", TEXT)
    assert sentence == now
