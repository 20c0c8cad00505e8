"""The arguments that all commands share."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from unique_users.aggregation.counts import sketch_class
from unique_users.config.schema import Config
from unique_users.errors import UsageError

CONFIG_FILE = "config.yaml"
RATE_MAX = 1e9  # frames a second
FILE_HELP = (
    "frames, one a line or as a JSON array; plain, gzip, zstd, bz2, xz, or a zip archive of one file; `-` is stdin"
)


class Parser(argparse.ArgumentParser):
    """A parser whose errors never show a value: a misplaced `kafka.sasl_plain_password=…` holds a secret."""

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        """As in argparse, but an error names only the flags that are not recognised."""
        arguments: argparse.Namespace
        arguments, rest = self.parse_known_args(args, namespace)
        files = getattr(arguments, "files", [])
        rest += [file for file in files if file.startswith("kafka.") and "=" in file]
        if rest:
            flags = [word.partition("=")[0] for word in rest if re.match(r"--[a-z]", word)]
            others = f"{len(rest)} of them (a setting needs --set before it)"
            self.error(f"unrecognized arguments: {' '.join(flags) or others}")
        return arguments

    def error(self, message: str) -> NoReturn:
        """As in argparse, without the value that was given."""
        for shown in _SHOWN:
            message = shown.sub(r"\1\2", message)
        super().error(message)


# What argparse says, then the value that was given, then the rest.
_SHOWN = [
    re.compile(r"(invalid [a-z_]+(?: value)?): .*?( \(choose from .*|$)", re.DOTALL),
    re.compile(r"(ignored explicit argument) .*(.{0})", re.DOTALL),
    re.compile(r"(ambiguous option: [^=]*)=.*( could match )", re.DOTALL),
]


def default_config() -> str:
    """The configuration file in this directory, or an empty name, which means the defaults."""
    return CONFIG_FILE if Path(CONFIG_FILE).exists() else ""


def argument_parser(description: str, examples: str) -> argparse.ArgumentParser:
    """A parser with `--config` and `--set` whose help ends with examples. Wrong usage exits with 2."""
    parser = Parser(
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        default=default_config(),
        metavar="FILE",
        help=f"the settings (default: {CONFIG_FILE} in this directory; without it, every key has its default)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="use this value instead of the file's; repeatable",
    )
    return parser


def add_format(parser: argparse.ArgumentParser, what: str = "output format") -> None:
    """Add `--format`: lines for people, or JSON lines for programs."""
    parser.add_argument("--format", choices=["text", "json"], default="text", help=f"{what}; default: text")


def check_rate(rate: float) -> None:
    """Raise UsageError for an impossible rate, including `nan` and `inf`, which Python accepts as numbers."""
    if not 0 < rate <= RATE_MAX:
        raise UsageError(f"--rate: expected a number above 0 and up to {RATE_MAX:,.0f}, got {rate:g}")


def require_estimates(config: Config) -> None:
    """Raise UsageError if intervals are estimated and the package for that is missing."""
    if not config.counter.estimates:
        return
    try:
        sketch_class()
    except ImportError as error:
        message = f"counter.estimates: needs the package datasketches ({error}): pip install 'unique-users[estimates]'"
        raise UsageError(message) from None
