"""`${file:/PATH}` in a value: the content of a file, which no message shows."""

import os
from pathlib import Path

import pytest

from unique_users.config.load import load_config
from unique_users.config.variables import FILE_BYTES_MAX
from unique_users.errors import UsageError

SECRET = "s3cr3t"


def password_of(path: Path | str, around: str = "{}") -> object:
    value = around.format(f"${{file:{path}}}")
    return load_config("", [f"kafka.sasl_plain_password='{value}'"], {}).kafka["sasl_plain_password"]


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (SECRET, SECRET),
        (f"{SECRET}\n", SECRET),
        (f"{SECRET}\r\n", SECRET),
        (f"\ufeff{SECRET}\r\n", SECRET),
        (f"{SECRET}\n\n", f"{SECRET}\n"),
        (f"  {SECRET} ", f"  {SECRET} "),
        ("0123", "0123"),
        ("${HOME}", "${HOME}"),
        ("", ""),
    ],
)
def test_the_value_is_the_content_without_one_line_end(tmp_path: Path, content: str, value: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content.encode())
    assert password_of(file) == value
    assert password_of(file, "a{}b") == f"a{value}b"


def complaint(path: Path | str, around: str = "{}") -> str:
    with pytest.raises(UsageError) as error:
        password_of(path, around)
    assert "kafka.sasl_plain_password" in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_that_cannot_be_read_is_named_with_its_key_and_without_its_content(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    assert complaint(file).endswith(f"{file}: cannot be read: No such file or directory")
    assert complaint(tmp_path).endswith(f"{tmp_path}: cannot be read: Is a directory")
    file.write_bytes(SECRET.encode() + b"\xff")
    assert complaint(file).endswith(f"{file}: is not UTF-8")
    file.write_bytes(SECRET.encode() * FILE_BYTES_MAX)
    said = complaint(file)
    assert f"{file}: larger than" in said
    assert SECRET not in said


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may read everything")
def test_a_file_without_the_right_to_read_it_is_named(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(0)
    assert "Permission denied" in complaint(file)


def test_a_relative_path_is_refused() -> None:
    assert complaint("secrets/kafka").endswith("secrets/kafka: expected ${file:/PATH} with the full path of a file")


def test_a_password_that_only_looks_like_a_file_is_not_shown() -> None:
    assert SECRET not in complaint(f"/{SECRET}", "a{}b")
    assert SECRET not in complaint(SECRET, "a{}b")
