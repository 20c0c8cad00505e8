"""Where the product is, and its commands as a person runs them. Imported first by what is run as a script."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("producer", "bucketer", "counter")
for directory in (str(ROOT), str(ROOT / "tests" / "support")):
    if directory not in sys.path:
        sys.path.insert(0, directory)
# For the commands too, where a test has another working directory, or another checkout is installed.
os.environ["PYTHONPATH"] = str(ROOT)


def command(name: str, *arguments: str) -> list[str]:
    """The command line of a command, like `counter` or `state`: three are scripts as well, and are run as such."""
    begin = [str(ROOT / f"{name}.py")] if name in SCRIPTS else ["-m", "unique_users", name]
    return [sys.executable, *begin, *arguments]
