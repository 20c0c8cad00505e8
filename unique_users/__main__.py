"""`python -m unique_users COMMAND`, the same as the installed `unique-users COMMAND`."""

import sys

from unique_users.commands import COMMANDS, run

PROG = "unique-users"


def main():  # type: ignore[no-untyped-def]  # noqa: ANN201 - older Pythons get here
    """Run the command that the arguments name."""
    arguments = sys.argv[1:]
    if arguments[:1] in (["--help"], ["-h"]):
        print(_help())
    elif arguments[:1] == ["--version"]:
        from importlib.metadata import version  # noqa: PLC0415 - not for every command

        print(PROG, version(PROG))
    elif arguments and arguments[0] in COMMANDS:
        run(arguments[0], "{} {}".format(PROG, arguments[0]), arguments[1:])
    else:
        print(_help(), file=sys.stderr)
        if arguments:
            print("\nerror: no command {!r}".format(arguments[0]), file=sys.stderr)
        sys.exit(2)


def _help():  # type: ignore[no-untyped-def]  # noqa: ANN202
    lines = ["usage: {} COMMAND [options]".format(PROG), "", "Unique users per minute from a stream in Kafka.", ""]
    lines += ["  {:<10} {}".format(name, does) for name, does in COMMANDS.items()]
    return "\n".join([*lines, "", "`{} COMMAND --help` lists the options; `--version` prints the version.".format(PROG)])


if __name__ == "__main__":
    main()
