"""The wall clock of single processes, moved by a library preloaded into them: librdkafka waits by that clock."""

import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")
COMPILER = shutil.which("cc") or shutil.which("gcc")
WHY_NOT = "" if sys.platform.startswith("linux") and COMPILER else "it takes a library for Linux, made by a C compiler"


class MovedClock:
    """The wall clock of the processes that are started with its `environment`. Its files are in `directory`."""

    def __init__(self, directory: Path) -> None:
        assert COMPILER is not None, WHY_NOT
        library, self._file = directory / "clock.so", directory / "clock.offset"
        subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
        self.environment = {"CLOCK_OFFSET_FILE": str(self._file), "LD_PRELOAD": str(library)}
        self._offset = 0
        self._write()

    def move(self, seconds: int) -> None:
        """Set it forward, or back."""
        self._offset += seconds
        self._write()

    def _write(self) -> None:
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(self._offset.to_bytes(8, sys.byteorder, signed=True))
