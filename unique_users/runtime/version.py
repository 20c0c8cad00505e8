"""Which version this is."""

from importlib.metadata import PackageNotFoundError, version

PACKAGE = "unique-users"


def installed_version() -> str:
    """The version of the installed package."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "of a checkout that is not installed"
