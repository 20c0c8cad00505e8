"""What a check finds, in words. Pure."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """How it stands with what was looked at."""

    OK = "ok"
    WARNING = "warning"  # not wrong now, but somebody should know
    WRONG = "wrong"
    SKIPPED = "skipped"  # it was not looked at


class Finding(NamedTuple):
    """One line of the report. `do` is what to do about it, if anything."""

    check: str
    status: Status
    says: str
    do: str = ""


def ok(check: str, says: str) -> Finding:
    """All is well."""
    return Finding(check, Status.OK, says)


def warning(check: str, says: str, do: str = "") -> Finding:
    """Not wrong now, but somebody should know."""
    return Finding(check, Status.WARNING, says, do)


def wrong(check: str, says: str, do: str = "") -> Finding:
    """Something is wrong."""
    return Finding(check, Status.WRONG, says, do)


def skipped(check: str, why: str) -> Finding:
    """It was not looked at."""
    return Finding(check, Status.SKIPPED, f"not looked at: {why}")


def unknown(check: str, why: str) -> Finding:
    """It cannot be known from here, and nothing says that it is wrong."""
    return Finding(check, Status.OK, f"not known: {why}")


def from_error(check: str, error: Exception, do: str = "") -> Finding:
    """What an error says; the words behind its last colon are what to do, unless that is given."""
    says, colon, advice = str(error).rpartition(": ")
    if do or not colon:
        return wrong(check, str(error), do)
    return wrong(check, says, advice)


def all_well(findings: Sequence[Finding]) -> bool:
    """Whether nothing is wrong; what could not be looked at is not known to be well."""
    return all(finding.status in {Status.OK, Status.WARNING} for finding in findings)
