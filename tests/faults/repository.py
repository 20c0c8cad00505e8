"""Where the product and what tests share are. Imported first by what is run as a script, so that both are found."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for directory in (str(ROOT), str(ROOT / "tests")):
    if directory not in sys.path:
        sys.path.insert(0, directory)
