"""`python -m unique_users COMMAND`, the same as the installed `unique-users COMMAND`."""

import sys

from unique_users.commands import COMMANDS, PROG, run


def main() -> None:
    """Run the command that the arguments name."""
    arguments = sys.argv[1:]
    if arguments[:1] in (["--help"], ["-h"]):
        print(_help())
    elif arguments[:1] == ["--version"]:
        from unique_users.runtime.version import installed_version  # noqa: PLC0415 - only when it is needed

        print(PROG, installed_version())
    elif arguments and arguments[0] in COMMANDS:
        run(arguments[0], f"{PROG} {arguments[0]}", arguments[1:])
    else:
        print(_help(), file=sys.stderr)
        if arguments:
            print(f"\nerror: no command {arguments[0]!r}", file=sys.stderr)
        sys.exit(2)


def _help() -> str:
    lines = [f"usage: {PROG} COMMAND [options]", "", "Unique users per minute from a stream in Kafka.", ""]
    lines += [f"  {name:<10} {does}" for name, does in COMMANDS.items()]
    return "\n".join([*lines, "", f"`{PROG} COMMAND --help` lists the options; `--version` prints the version."])


if __name__ == "__main__":
    main()
