"""The workflows of GitHub: what they run is pinned, and zizmor finds nothing in them."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def zizmor(path: Path) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).parent / "zizmor")
    return subprocess.run(
        [program, "--offline", "--no-progress", "--color=never", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_zizmor_finds_nothing() -> None:
    found = zizmor(ROOT / ".github" / "workflows")
    assert found.returncode == 0, found.stdout
    assert "No findings" in found.stdout


def test_zizmor_would_find_an_action_that_is_not_pinned(tmp_path: Path) -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    planted = tmp_path / ".github" / "workflows" / "ci.yml"
    planted.parent.mkdir(parents=True)
    planted.write_text(re.sub(r"checkout@[0-9a-f]{40}", "checkout@v4", text, count=1), encoding="utf-8")
    found = zizmor(planted)
    assert found.returncode != 0
    assert "unpinned-uses" in found.stdout


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_commit_and_says_its_release(workflow: Path) -> None:
    text = workflow.read_text(encoding="utf-8")
    used = [line.partition("uses: ")[2] for line in text.splitlines() if "uses: " in line]
    remote = [line for line in used if not line.startswith("$/")]
    assert [line for line in remote if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []
    assert all((ROOT / line[2:]).exists() for line in used if line.startswith("$/"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_make_target_of_a_workflow_exists(workflow: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", "\n".join(runs_of(workflow)))) <= targets


def runs_of(workflow: Path) -> list[str]:
    tree: dict[str, Any] = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    return [step["run"] for job in tree["jobs"].values() for step in job.get("steps", []) if "run" in step]
