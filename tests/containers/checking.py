"""Tools that check files, and a copy of a file with a typo for them."""

import subprocess
import sys
from pathlib import Path
from shutil import which

from repository import ROOT

BIN = Path(sys.executable).parent
COMPOSE = ROOT / "compose.yaml"


def run(tool: str, *arguments: object, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    line = [which(tool, path=str(BIN)) or tool, *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def planted(directory: Path, right: str, wrong: str, file: Path) -> Path:
    """A copy of a file with a typo."""
    text = file.read_text(encoding="utf-8")
    assert right in text
    copy = directory / file.name
    copy.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    return copy
