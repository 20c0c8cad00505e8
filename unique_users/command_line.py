"""The arguments that all scripts have in common."""

import argparse


def argument_parser(description: str, examples: str) -> argparse.ArgumentParser:
    """A parser with `--config` and `--set`, whose help ends with examples. Wrong usage exits with 2."""
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="config.yaml", metavar="FILE", help="the settings (default: config.yaml)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="use this value instead of the file's; repeatable",
    )
    return parser
