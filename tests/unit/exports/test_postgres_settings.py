"""What is said about a connection string, and without the package: never a password."""

import subprocess
import sys
from pathlib import Path

import pytest

from unique_users.config.load import load_config
from unique_users.errors import UsageError
from unique_users.exports.postgres import PostgresAwayError, PostgresError, Table, checked


@pytest.mark.parametrize(
    "dsn", ["host=db password=s3cr3t", "postgresql://me:s3cr3t@db/stats", "host=db s3cr3t", "postgresql://[s3cr3t"]
)
def test_a_password_in_the_connection_string_is_refused_and_not_shown(dsn: str) -> None:
    with pytest.raises(UsageError, match=r"^postgres\.dsn: ") as error:
        checked(load_config("", [f"postgres.dsn={dsn}"], {}).postgres)
    assert "s3cr3t" not in str(error.value)


@pytest.mark.parametrize("key", ["password", "dsn"])
@pytest.mark.parametrize(
    "value", ["s3cr3t\n", "s3cr3t" * 1_000, "postgresql://me:s3cr3t@db/stats\n", "a${s3cr3t}b", "[s3cr3t", "s3cr3t: a"]
)
@pytest.mark.parametrize("by", ["environment", "override"])
def test_no_message_about_a_wrong_value_shows_it(key: str, value: str, by: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"postgres: {{{key}: '${{GIVEN}}'}}" if by == "environment" else "{}", encoding="utf-8")
    overrides = [] if by == "environment" else [f"postgres.{key}={value}"]
    said = ""
    try:
        checked(load_config(str(path), overrides, {"GIVEN": value}).postgres)
    except UsageError as error:
        said = str(error)
    assert "s3cr3t" not in said


def test_a_server_that_is_away_is_one_to_wait_for_and_its_line_has_no_password() -> None:
    settings = load_config("", ["postgres.dsn=host=127.0.0.1 port=1", "postgres.password=s3cr3t"], {}).postgres
    with pytest.raises(PostgresAwayError) as error:
        Table(settings)
    assert "s3cr3t" not in str(error.value)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, PostgresError)


@pytest.mark.parametrize("table", ["Counts", "a.b.c", "x; DROP TABLE y", "a" * 55, ""])
def test_a_table_has_a_plain_name(table: str) -> None:
    with pytest.raises(UsageError, match=r"postgres\.table"):
        load_config("", [f"postgres.table='{table}'"], {})


def test_without_the_package_the_extra_is_named() -> None:
    code = "import sys; sys.modules['psycopg'] = None; from unique_users.commands import run; run('export', 'x', [])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "'psycopg', which is not installed" in done.stderr
    assert "pip install 'unique-users[postgres]'" in done.stderr
