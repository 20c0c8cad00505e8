"""Which version this is."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGE = "unique-users"


@cache
def installed_version() -> str:
    """The version of the installed package."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "of a checkout that is not installed"
