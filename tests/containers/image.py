"""Builds the image with Buildah and runs compose.yaml with it until the counts are exact: `make image`.

No container engine is needed, only root and the Debian packages buildah, debootstrap, iproute2 and prometheus. Every
command runs as the image's user, on a read-only root. Ends with exit code 0 if all went well.
"""

import argparse
import os
import re
import shutil
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

from buildah import RELEASES, Store, bytes_of
from composed import resolved
from confined import STOP_SECONDS
from patience import until
from stack import Stack

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = {"broker": "local", "demo": "local", "export": "postgres"}  # commands, and the extras that they need
MB = 1_000_000
MB_MAX = 150
TOOLS = ("buildah", "debootstrap", "ip", "unshare", "nsenter", "prometheus")


def main() -> None:
    """Build, measure, run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="keep the images here for the next time")
    parser.add_argument("--release", choices=RELEASES, default="trixie", help="the Debian of the base")
    parser.add_argument("--starts", type=int, default=0, help="measure so many starts of bucketer and counter")
    parser.add_argument("--built", action="store_true", help="take the image that is in the store already")
    arguments = parser.parse_args()
    if os.geteuid() or (missing := [tool for tool in TOOLS if not shutil.which(tool)]):
        sys.exit(f"error: needs root, and the programs {', '.join(missing)}")
    with TemporaryDirectory(prefix="unique-users-image-") as place:
        store = Store(arguments.store or Path(place) / "store", arguments.release)
        store.make_bases()
        if not arguments.built:
            store.build(ROOT, log=Path(place) / "build.log")
        container, root = store.mount()
        try:
            sizes(store, root)
            services = resolved(ROOT / "compose.yaml")["services"]
            with Stack(services, store.config(), root, Path(place)) as stack:
                every_command_starts(stack)
                the_root_is_read_only(stack)
                compose_until_exact(stack)
                if arguments.starts:
                    measure_starts(stack, arguments.starts)
        finally:
            store.unmount(container)
    print("exact: the image is built, and compose.yaml runs")


def sizes(store: Store, root: Path) -> None:
    """Print the seconds of each step, and the bytes of the image."""
    for step, seconds in store.seconds.items():
        print(f"{seconds:7.1f} s  {step[:100]}")
    whole, ours = bytes_of(root), bytes_of(root / "opt")
    print(f"image: {whole / MB:.0f} MB, of which {ours / MB:.0f} MB are not the base's")
    assert whole < MB_MAX * MB, f"{whole / MB:.0f} MB"


def every_command_starts(stack: Stack) -> None:
    """Each command is there, and those that need more packages name them."""
    with stack.container("recount", ["--help"], "help") as listing:
        assert listing.wait(60) == 0, listing.said()
    commands = re.findall(r"^  ([a-z]+) ", listing.said(), re.MULTILINE)
    assert {"bucketer", "counter", "healthy", *LEFT_OUT} <= set(commands), listing.said()
    for command in commands:
        with stack.container("recount", [command, "--help"], f"help-{command}") as asked:
            code = asked.wait(60)
        if extra := LEFT_OUT.get(command):
            assert (code, f"unique-users[{extra}]" in asked.said()) == (1, True), asked.said()
        else:
            assert code == 0, asked.said()
    print(f"as user {stack.image['User']} on a read-only root: {', '.join(commands)}")


def the_root_is_read_only(stack: Stack) -> None:
    """A file can be written to the volume, and nowhere else."""
    with stack.container("recount", ["sample", "/opt/x.gz"], "read-only") as refused:
        assert refused.wait(60) == 1
    assert "Read-only file system" in refused.said(), refused.said()


def compose_until_exact(stack: Stack) -> None:
    """All services up, the sample replayed and recounted, the metrics scraped, and a clean end of each."""
    stack.up()
    producer = stack.running["producer"]
    until(lambda: producer.code is not None, "the producer")
    assert producer.code == 0, producer.said()
    until(lambda: recounted(stack) == 0, "exact counts")
    print((stack.directory / "recount.log").read_text(encoding="utf-8").splitlines()[-1])
    dashboard = f"http://{stack.network.addresses['dashboard']}:8360/"
    with urlopen(dashboard, timeout=20) as page:
        assert page.status == 200
    until(
        lambda: scraped(stack) == {"bucketer": "up", "counter": "up", "dashboard": "up", "producer": "down"}, "scrapes"
    )
    wanted = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8").count("- alert: ")
    alerts = [rule for group in stack.prometheus("rules")["groups"] for rule in group["rules"]]
    assert len(alerts) == wanted, alerts
    print(f"Prometheus scrapes them, and has {wanted} alerts")
    for name in ("dashboard", "counter", "bucketer"):
        container = stack.running[name]
        began = time.monotonic()
        assert container.stop() == 0, container.said()
        print(f"{name}: stopped by SIGTERM in {time.monotonic() - began:.1f} s (Docker waits {STOP_SECONDS:.0f})")


def recounted(stack: Stack) -> int:
    """What `docker compose run --rm recount` ends with."""
    (stack.directory / "recount.log").unlink(missing_ok=True)
    with stack.container("recount", stack.services["recount"]["command"]) as recount:
        return recount.wait(120)


def scraped(stack: Stack) -> dict[str, str]:
    """Whether Prometheus reaches each job."""
    targets: list[dict[str, Any]] = (stack.prometheus("targets") or {"activeTargets": []})["activeTargets"]
    return {each["labels"]["job"].removeprefix("unique-users-"): each["health"] for each in targets}


def measure_starts(stack: Stack, times: int) -> None:
    """Print how long a container takes from its start to the line that says what it reads."""
    for name in ("bucketer", "counter"):
        took = [start_seconds(stack, name, number) for number in range(times)]
        median, longest = statistics.median(took), max(took)
        print(f"{name}: {median:.2f} s from its start to 'reading', at most {longest:.2f} s, of {times} starts")


def start_seconds(stack: Stack, name: str, number: int) -> float:
    """Time one start of a service; it is ready and stopped before the next."""
    began = time.monotonic()
    with stack.container(name, stack.services[name]["command"], f"{name}-{number}") as started:
        reading = f"{name}: reading"
        until(lambda: reading in started.said(), started.said, give_up=lambda: started.code is not None, every=0.005)
        seconds = time.monotonic() - began
        until(lambda: started.ask("unique-users", "healthy", "--ready").returncode == 0, name)
        assert started.stop() == 0, started.said()
    return seconds


if __name__ == "__main__":
    main()
