"""Releases: Python, this program, its packages; those that it was tested with are pinned in its metadata."""

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from unique_users.doctor.examination import Examination
from unique_users.doctor.finding import Finding, ok, warning, wrong

NAME = "versions"
PROG = "unique-users"
_PIN = re.compile(
    r"(?P<name>[A-Za-z0-9_.-]+)==(?P<release>[^;\s]+)(?:\s*;\s*extra\s*==\s*['\"](?P<extra>[^'\"]+)['\"])?\s*"
)
_CLIENTS = {"kafka-python": "kafka-python", "librdkafka": "confluent-kafka"}


def look(examination: Examination) -> Iterator[Finding]:
    """Compare what is installed with what is pinned."""
    config = examination.config
    client = _CLIENTS[config.client]
    try:
        own, pins = version(PROG), requires(PROG) or []
    except PackageNotFoundError:
        own, pins = "of a checkout that is not installed", []
    wanted = {
        match["name"]: match["release"] for pin in pins if (match := _PIN.fullmatch(pin)) and _used(match, config)
    }
    differing = []
    for name, release in wanted.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            yield wrong(NAME, f"the package {name} is not installed", f"pip install {name}=={release}")
            continue
        if found != release:
            differing.append(f"{name} is {found} instead of {release}")
    if differing:
        do = "run `make setup`, or install the releases that pyproject.toml names"
        yield warning(NAME, f"not what the tests ran with: {', '.join(differing)}", do)
    shown = f"{PROG} {own}, Python {platform.python_version()}"
    try:
        yield ok(NAME, f"{shown}, {client} {version(client)}")
    except PackageNotFoundError:
        yield wrong(NAME, f"{shown}, without {client}", f"pip install 'unique-users[{config.client}]'")


def _used(match: re.Match[str], config: object) -> bool:
    return match["extra"] is None or match["extra"] == getattr(config, "client", "")
