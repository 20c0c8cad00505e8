"""What `unique-users doctor` finds, run as a person runs it."""

import json
import subprocess
from typing import NamedTuple

from running import SECONDS, Running


class Found(NamedTuple):
    """One line of its report."""

    check: str
    status: str
    says: str
    do: str


class Examined(NamedTuple):
    """Its whole report, and its exit code."""

    code: int
    found: list[Found]
    text: str

    def of(self, check: str, status: str) -> Found:
        """The one finding of this check with this status."""
        those = [each for each in self.found if each.check == check and each.status == status]
        assert len(those) == 1, self.shown()
        return those[0]

    def wrong(self) -> list[str]:
        """The checks that found something wrong."""
        return [each.check for each in self.found if each.status == "wrong"]

    def shown(self) -> str:
        return "\n".join(map(str, self.found))


def examine(running: Running, *settings: str, client: str = "") -> Examined:
    """Examine the system of these scripts, with more settings on top."""
    given = [f"client={client}"] if client else []
    flags = [flag for setting in (*given, *settings) for flag in ("--set", setting)]
    line = [*running.arguments("doctor", "--json"), *flags]
    done = subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.stdout, done.stderr
    tree = json.loads(done.stdout)
    assert tree["well"] == (done.returncode == 0)
    return Examined(done.returncode, [Found(**each) for each in tree["findings"]], done.stdout + done.stderr)
