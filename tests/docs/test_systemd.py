"""systemd finds nothing wrong with the units, and finds a misspelt key in any of them; their commands are accepted."""

import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from shutil import copytree

import pytest
from deployment import DEPLOY, tool, tracked
from repository import ROOT

from unique_users.commands import COMMANDS
from unique_users.config.load import load_config
from unique_users.dashboard.access import TOKEN_CHARACTERS_MIN, TOKEN_NAME

SYSTEMD = DEPLOY / "systemd"
UNITS = sorted([*SYSTEMD.glob("*.service"), *SYSTEMD.glob("*.target")])
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
COMMON = SYSTEMD / "unique-users-.service.d" / "common.conf"
ENVIRONMENT = SYSTEMD / "environment.example"
USERS = SYSTEMD / "unique-users.sysusers.conf"
PROGRAM = "/opt/unique-users/bin/unique-users"
EXPOSURE_MAX = 2.5
KEY = re.compile(r"^([A-Z][A-Za-z]+)=", re.MULTILINE)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A copy of all files in which the program is one that exists."""
    copy = tmp_path / "systemd"
    copytree(SYSTEMD, copy)
    for path in copy.glob("*.service"):
        path.write_text(path.read_text(encoding="utf-8").replace(PROGRAM, sys.executable))
    return copy


def verified(unit: Path) -> str:
    """What systemd says against a unit and what is added to it."""
    line = [tool("systemd-analyze", "EXPECT_SYSTEMD"), "verify", str(unit)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    ours = [said for said in (done.stdout + done.stderr).splitlines() if "unique-users" in said]  # others may be broken
    return "\n".join(ours)


def exposure(unit: Path) -> float:
    line = [tool("systemd-analyze", "EXPECT_SYSTEMD"), "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    (found,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    return float(found)


def test_every_file_is_tested_here() -> None:
    assert tracked(SYSTEMD) == sorted([*UNITS, COMMON, ENVIRONMENT, USERS])


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_finds_nothing_wrong_with_a_unit(unit: Path, units: Path) -> None:
    assert verified(units / unit.name) == ""


@pytest.mark.parametrize("file", [*UNITS, COMMON], ids=lambda path: path.name)
def test_a_misspelt_key_is_found(file: Path, units: Path) -> None:
    copy = units / file.relative_to(SYSTEMD)
    text = copy.read_text(encoding="utf-8")
    unit = copy if copy.suffix in {".service", ".target"} else units / "unique-users-dashboard.service"
    places = [match.start(1) for match in KEY.finditer(text)]
    assert places
    for place in places:
        copy.write_text(f"{text[:place]}Q{text[place:]}")
        assert "Unknown key 'Q" in verified(unit).replace(" name", ""), text[place:].splitlines()[0]
    copy.write_text(text.replace("[Unit]", "[Units]"))
    assert "Unknown section 'Units'" in verified(unit)


def test_a_replay_that_is_done_is_not_begun_again() -> None:
    restarts = {
        unit.stem: re.findall(r"^Restart=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE) for unit in SERVICES
    }
    assert restarts.pop("unique-users-producer") == ["on-failure"]
    assert set(map(tuple, restarts.values())) == {("always",)}
    assert "\nRestart=" not in COMMON.read_text(encoding="utf-8")  # it would win over what the units say


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.name)
def test_a_service_may_do_little(unit: Path, units: Path) -> None:
    assert exposure(units / unit.name) < EXPOSURE_MAX


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.name)
def test_the_command_of_a_service_is_one_that_the_program_takes(unit: Path) -> None:
    text = unit.read_text(encoding="utf-8").replace("\\\n", " ").replace("%i", "3").replace("%H", "host")
    (line,) = re.findall(r"^ExecStart=(.*)", text, re.MULTILINE)
    program, command, *arguments = shlex.split(line)
    assert program == PROGRAM
    assert command in COMMANDS
    assert f"unique-users-{command}" in unit.name
    assert arguments[:2] == ["--config", "/etc/unique-users/config.yaml"]
    rest = arguments[2:]
    overrides = [value for flag, value in pairwise(rest) if flag == "--set"]
    config = load_config(str(ROOT / "config.yaml"), overrides)
    assert config.metrics.port
    if command == "counter":
        assert f"StateDirectory={Path(config.state.directory).relative_to('/var/lib').as_posix()}\n" in text
    if command in {"bucketer", "counter"}:
        assert config.kafka["group_instance_id"] == f"host-{command}-3"
    done = subprocess.run(
        [sys.executable, "-m", "unique_users", command, *arguments, "--help"], capture_output=True, check=False
    )
    assert done.returncode == 0


def test_the_ports_of_ten_of_each_differ() -> None:
    text = "\n".join(unit.read_text(encoding="utf-8") for unit in UNITS)
    patterns = re.findall(r"metrics\.port=(\S+)", text)
    ports = [
        pattern.replace("%i", str(number)) for pattern in patterns for number in range(10 if "%i" in pattern else 1)
    ]
    assert len(ports) == len(set(ports)) == 22


def test_every_variable_of_the_environment_is_one_that_something_reads() -> None:
    lines = re.findall(r"^#?([A-Z][A-Z_]+)=", ENVIRONMENT.read_text(encoding="utf-8"), re.MULTILINE)
    config = (ROOT / "config.yaml").read_text(encoding="utf-8")
    units = "\n".join(unit.read_text(encoding="utf-8") for unit in UNITS)
    read = {*re.findall(r"\$\{([A-Z_]+)\}", config), *re.findall(r"\$([A-Z_]+)", units), TOKEN_NAME}
    assert lines
    assert set(lines) <= read
    assert f"at least {TOKEN_CHARACTERS_MIN} characters" in ENVIRONMENT.read_text(encoding="utf-8")


def test_the_user_of_the_services_is_the_one_that_is_made(tmp_path: Path) -> None:
    (user,) = re.findall(r"^User=(\S+)$", COMMON.read_text(encoding="utf-8"), re.MULTILINE)
    lines = [line for line in USERS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert [shlex.split(line)[:2] for line in lines] == [["u", user]]
    for text, good in ((lines[0], True), (lines[0].replace("u ", "ux ", 1), False), (f"{lines[0]} a b c", False)):
        file = tmp_path / "users.conf"
        file.write_text(f"{text}\n")
        line = [tool("systemd-sysusers", "EXPECT_SYSTEMD"), "--dry-run", str(file)]
        assert (subprocess.run(line, capture_output=True, check=False).returncode == 0) == good, text


def test_the_time_to_stop_in_fits_what_a_stop_takes() -> None:
    from unique_users.runtime.watchdog import CLOSE_SECONDS  # noqa: PLC0415 - only here

    text = COMMON.read_text(encoding="utf-8")
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert int(seconds) > 2 * CLOSE_SECONDS
    (watchdog,) = re.findall(r"^WatchdogSec=(\d+)$", text, re.MULTILINE)
    assert int(watchdog) > load_config("").health.stuck_seconds  # the process itself says more about why it ends
