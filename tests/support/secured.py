"""What tests of a secured broker share: the documented rights, the users' logins, and what may stand in no line."""

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from unique_users.local_kafka.security import USERS, Security

OPERATIONS = Path(__file__).resolve().parents[2] / "docs/operations.md"
GRANTS = re.findall(r"^kafka-acls (.*)$", OPERATIONS.read_text(encoding="utf-8"), re.MULTILINE)


class Right(NamedTuple):
    """What a user may do with a topic or a group."""

    user: str
    operation: str
    resource: str  # "topic" or "group"
    name: str


def documented_rights() -> Iterator[Right]:
    """The rights that the documented commands grant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--add", action="store_true")
    for option in ("--allow-principal", "--operation", "--topic", "--group"):
        parser.add_argument(option, action="append", default=[])
    for grant in GRANTS:
        given = parser.parse_args(shlex.split(grant))
        resources = [("topic", name) for name in given.topic] + [("group", name) for name in given.group]
        for principal in given.allow_principal:
            for operation in given.operation:
                for resource, name in resources:
                    yield Right(principal.removeprefix("User:"), operation, resource, name)


def login(security: Security, user: str) -> dict[str, str]:
    """The `kafka:` settings with which a script is this user; the address is not among them."""
    tree = yaml.safe_load(security.config(user).read_text(encoding="utf-8"))
    return {name: value for name, value in tree["kafka"].items() if name != "bootstrap_servers"}


def secrets(security: Security) -> set[str]:
    """The passwords of all users."""
    return {login(security, user)["sasl_plain_password"] for user in USERS}


def error_lines(stderr: str) -> list[str]:
    """The errors in what a script said; it may have said before that it waits."""
    return [line for line in stderr.splitlines() if line.startswith("error:")]
