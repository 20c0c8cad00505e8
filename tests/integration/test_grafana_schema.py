"""Grafana's published schema accepts the dashboard. No Grafana runs here."""

import os
import subprocess
from pathlib import Path
from shutil import copy, which

import pytest
from repository import ROOT

pytestmark = pytest.mark.slow

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
PACKAGES = ROOT / "tests" / "data" / "grafana"
STRICT = ("--noEmit", "--strict", "--skipLibCheck")
MODULES = ("--module", "nodenext", "--moduleResolution", "nodenext", "--target", "es2022")


@pytest.fixture
def checked(tmp_path: Path) -> Path:
    """A directory with the schema. Without npm the tests are skipped, unless EXPECT_NPM is set."""
    npm = which("npm")
    if not npm:
        assert not os.environ.get("EXPECT_NPM"), "install npm"
        pytest.skip("no npm: install Node.js")
    for file in PACKAGES.glob("package*.json"):
        copy(file, tmp_path)
    line = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False)
    if done.returncode:
        assert not os.environ.get("EXPECT_NPM"), done.stderr
        pytest.skip(f"npm cannot fetch Grafana's schema: {done.stderr[-200:]}")
    return tmp_path


def complaints(directory: Path, dashboard: str) -> str:
    """What TypeScript says of a dashboard as a literal of the schema's type."""
    text = f'import type {{ Dashboard }} from "@grafana/schema";\nexport const dashboard: Dashboard = {dashboard};\n'
    (directory / "dashboard.ts").write_text(text, encoding="utf-8")
    line = [str(which("node")), "node_modules/typescript/bin/tsc", *STRICT, *MODULES, "dashboard.ts"]
    return subprocess.run(line, cwd=directory, capture_output=True, text=True, timeout=150, check=False).stdout


def test_the_schema_accepts_the_dashboard_and_not_just_anything(checked: Path) -> None:
    dashboard = DASHBOARD.read_text(encoding="utf-8")
    assert complaints(checked, dashboard) == ""
    assert "gridPosition" in complaints(checked, dashboard.replace('"gridPos"', '"gridPosition"'))
    text = dashboard.replace('"schemaVersion": 39', '"schemaVersion": "39"')
    assert "'string' is not assignable to type 'number'" in complaints(checked, text)
