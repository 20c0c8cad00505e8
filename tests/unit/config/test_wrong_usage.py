"""What a person sees who starts a script with a wrong setting."""

import subprocess
from typing import Any

import pytest
from repository import ROOT, command


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("bucketer", ["--config", "missing.yaml"]),
        ("counter", ["--set", "counter.report_seconds=0"]),
        ("recount", ["file", "--set", "countr.group=x"]),
    ],
)
def test_wrong_usage_ends_a_script_with_one_line_and_exit_code_2(script: str, arguments: list[str]) -> None:
    line: list[Any] = [*command(script), *arguments]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("script", ["producer", "demo"])
@pytest.mark.parametrize("rate", ["inf", "nan", "-inf", "0", "-1", "1e999", "1e300"])
def test_a_rate_that_is_none_is_refused_in_one_line(script: str, rate: str) -> None:
    line: list[Any] = [*command(script), f"--rate={rate}", "--config", ROOT / "config.yaml"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --rate: expected a number above 0 and up to 1,000,000,000, got ")
    assert done.stderr.count("\n") == 1
