"""Run the units of deploy/systemd under a real systemd, in a container: python tests/faults/under_systemd.py, as root.

Needs systemd-nspawn (Debian: systemd-container). Takes four minutes. Exit code 1 when something was not as promised.
"""

import shlex
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import psutil
from harness import new_broker
from patience import LIMIT_SECONDS, until
from repository import ROOT

from unique_users.demo.sample import frames
from unique_users.local_kafka.broker import LocalKafka

BUCKETER, COUNTER, PAGE = "unique-users-bucketer@1", "unique-users-counter@1", "unique-users-dashboard"
PRODUCER = "unique-users-producer"
# Shorter times than in the files, and nothing else: the watchdog, and how long a start may take.
SHORTER = "[Service]\nWatchdogSec=10\nTimeoutStartSec=10\nRestartSec=1\n"
STARTED = ("active", "running", "reading")
PROGRAM = """\
#!/bin/sh
export LD_LIBRARY_PATH=/opt/python/lib PYTHONHOME=/opt/python PYTHONPATH=/opt/src:/opt/site PYTHONDONTWRITEBYTECODE=1
exec /opt/python/bin/python3 -m unique_users "$@"
"""
CGROUPS = [path for path in map(Path, ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified")) if path.exists()]


class Container:
    """A systemd that runs, and what it is asked."""

    def __init__(self, leader: int, root: Path) -> None:
        self._leader = str(leader)
        self.root = root
        self.failed = 0

    def ask(self, *line: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        entered = ["nsenter", "-t", self._leader, "-m", "-u", "-i", "-n", "-p", "-C", *line]
        return subprocess.run(entered, capture_output=True, text=True, check=False)

    def run(self, *line: str) -> str:
        """What a command says on stdout."""
        return self.ask(*line).stdout.strip()

    def state(self, unit: str) -> tuple[str, ...]:
        shown = self.run("systemctl", "show", unit, "-p", "ActiveState,SubState,StatusText,NRestarts")
        found = dict(line.split("=", 1) for line in shown.splitlines())
        return tuple(found[name] for name in ("ActiveState", "SubState", "StatusText", "NRestarts"))

    def send(self, signal: str, unit: str) -> None:
        self.run("kill", f"-{signal}", self.run("systemctl", "show", "-P", "MainPID", unit))

    def expect(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait until it holds, and say how that went."""
        holds = False
        with suppress(AssertionError):
            holds = until(condition, what)
        self.say(what, holds=holds)

    def expect_still(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        """Let time go by; it must hold then."""
        time.sleep(seconds)
        self.say(f"{what}, after {seconds:g} s", holds=condition())

    def say(self, what: str, *, holds: bool) -> None:
        print("ok    " if holds else "FAILED", what, flush=True)
        if not holds:
            self.failed += 1
            print(self.run("journalctl", "--no-pager", "-n", "20", "-u", "unique-users-*"))

    def configure(self, text: str) -> None:
        (self.root / "etc/unique-users/config.yaml").write_text(text, encoding="utf-8")


def make_root(root: Path) -> None:
    """Lay out what systemd needs beside /usr, with the files of deploy/systemd where docs/operations.md puts them."""
    for folder in ("usr", "dev", "proc", "sys", "run", "tmp", "var/lib", "opt/unique-users/bin", "etc/unique-users"):
        (root / folder).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for name in ("os-release", "hosts", "nsswitch.conf", "ld.so.cache"):
        (root / "etc" / name).write_bytes(Path("/etc", name).read_bytes())
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    copytree(ROOT / "deploy" / "systemd", root / "etc/systemd/system")
    (root / "etc/systemd/system/unique-users-.service.d/shorter.conf").write_text(SHORTER)
    program = root / "opt/unique-users/bin/unique-users"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    sample = b"\n".join(frames(20_000, 7_000, 180, seed=3, start=1_716_200_040))
    (root / "etc/unique-users/stream").write_bytes(sample + b"\n")
    (root / "etc/unique-users/environment").write_text("FRAMES=/etc/unique-users/stream\n")


@contextmanager
def booted(root: Path) -> Iterator[Container]:
    """A systemd in a container that shares this machine's network. Where no systemd runs, it has its own cgroups."""
    line = ["systemd-nspawn", "-q", "-D", str(root), "--register=no", "--boot", "--console=pipe", "--bind-ro=/usr"]
    binds = {sys.base_prefix: "/opt/python", sysconfig.get_path("purelib"): "/opt/site", str(ROOT): "/opt/src"}
    line += [f"--bind-ro={source}:{target}" for source, target in binds.items()]
    alone = not Path("/run/systemd/system").exists()
    made = [path / "under-systemd" for path in CGROUPS] if alone else []
    for cgroup in made:
        cgroup.mkdir(exist_ok=True)
    enter = "".join(f"echo $$ > {cgroup}/cgroup.procs; " for cgroup in made)
    line += [*(["--keep-unit"] if alone else []), "--", "--unit=basic.target"]
    with (root.parent / "nspawn.log").open("w") as said:
        whole = ["sh", "-c", f"{enter}exec {shlex.join(line)}"]
        nspawn = subprocess.Popen(whole, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        container = Container(leader_of(nspawn, root.parent / "nspawn.log"), root)
        active = ("systemctl", "is-active", "basic.target")
        container.expect("systemd runs", lambda: container.run(*active) == "active")
        yield container
    finally:
        nspawn.terminate()
        nspawn.wait(LIMIT_SECONDS)
        for cgroup in made:
            for folder in sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True):
                folder.rmdir()
            cgroup.rmdir()


def leader_of(nspawn: subprocess.Popen[bytes], log: Path) -> int:
    """The process that is the first one in the container."""

    def found() -> list[int]:
        children = psutil.Process(nspawn.pid).children(recursive=True)
        return [child.pid for child in children if child.name() == "systemd"]

    return until(found, lambda: f"systemd to run: {log.read_text()}", give_up=lambda: nspawn.poll() is not None)[0]


def check(container: Container, broker: LocalKafka) -> None:
    """Run everything, and do to it what happens to services."""
    units = (BUCKETER, COUNTER, PAGE)

    def all_at(restarts: int) -> bool:
        return all(container.state(unit) == (*STARTED, str(restarts)) for unit in units)

    def exact() -> bool:
        against = ("/etc/unique-users/stream", "--against", "counts", "--config", "/etc/unique-users/config.yaml")
        return container.ask("/opt/unique-users/bin/unique-users", "recount", *against).returncode == 0

    def counted_twice() -> bool:
        return "40,000 read = 40,000 counted" in container.run("journalctl", "--no-pager", "-u", COUNTER)

    plain = f"kafka: {{bootstrap_servers: '{broker.bootstrap_servers}'}}\n"
    container.configure(plain)
    container.run("systemd-sysusers", "/etc/systemd/system/unique-users.sysusers.conf")
    container.run("systemctl", "start", *units)
    container.say("bucketer, counter and page are started once they read", holds=all_at(0))
    container.run("systemctl", "start", PRODUCER)
    container.expect("a replay ends and is not begun again", lambda: container.state(PRODUCER)[0] == "inactive")
    container.expect("the counts are exact", exact)
    for unit in units:
        container.send("STOP", unit)
    container.expect("frozen ones are started again", lambda: all_at(1))
    for unit in units:
        container.send("KILL", unit)
    container.expect("killed ones are started again", lambda: all_at(2))
    broker.stop()
    container.expect_still("an outage of the broker restarts nothing", lambda: all_at(2), 40)
    container.run("systemctl", "stop", BUCKETER)
    container.run("systemctl", "start", "--no-block", BUCKETER)
    waiting = ("activating", "start", "waiting for the broker", "0")
    container.expect_still("nor does one at the start", lambda: container.state(BUCKETER) == waiting, 90)
    broker.start()
    container.expect("it goes on by itself", lambda: container.state(BUCKETER) == (*STARTED, "0"))
    container.configure("kafka: {bootstrap_server: x}\n")
    container.run("systemctl", "restart", COUNTER)
    container.expect_still(
        "a wrong configuration is not tried again", lambda: container.state(COUNTER)[0] == "failed", 5
    )
    counter = "counter: {intervals: [minute, hour], estimates: [hour], report_seconds: 2}"
    container.configure(f"client: librdkafka\n{plain}{counter}\n")
    container.run("systemctl", "restart", BUCKETER, COUNTER)
    container.run("systemctl", "start", PRODUCER)
    container.expect("the other client and estimates work with these rights, too", counted_twice)
    container.expect("the counts are exact", exact)


def main() -> int:
    """Exit code 1 when something failed."""
    with TemporaryDirectory(prefix="under-systemd-") as folder:
        root = Path(folder) / "root"
        make_root(root)
        with new_broker(Path(folder) / "kafka") as broker, booted(root) as container:
            check(container, broker)
            return min(1, container.failed)


if __name__ == "__main__":
    sys.exit(main())
