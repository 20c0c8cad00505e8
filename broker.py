"""A local Kafka for development and tests: start it, stop it, look at it, run any of Kafka's own tools."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from unique_users.config import load_config
from unique_users.kafka_jars import tool
from unique_users.lifecycle import run_script, say
from unique_users.local_kafka import LocalKafka, local_address

EXAMPLES = """\
examples:
  python broker.py start
  python broker.py status
  python broker.py tool kafka-topics --list
  python broker.py tool kafka-console-producer --topic feed < frames.json
  python broker.py tool kafka-consumer-groups --describe --all-groups
  python broker.py stop
  python broker.py start --kafka-version 2.4.0 --set broker.data=data-2.4

Options come before the tool's name; everything after it goes to the tool.
"""


def main(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code: 0 done, 1 failed (or `status`: not running), 2 wrong usage."""
    options = parse(arguments)
    config = load_config(options.config, options.set + options.set_after)
    version = options.kafka_version or config.broker.version
    servers = ",".join(config.bootstrap_servers)
    if options.command == "tool":
        return tool(version, options.name, options.arguments, servers)
    address = local_address(config.bootstrap_servers)
    if address is None:
        say(f"kafka.bootstrap_servers is {servers}, not one loopback address: no local Kafka is touched")
        return 0
    host, port = address
    return COMMANDS[options.command](LocalKafka(version, Path(config.broker.data), port, host=host))


def start(kafka: LocalKafka) -> int:
    """Start the broker unless it runs."""
    started = kafka.start()
    say(("started: " if started else "already there: ") + kafka.status().text)
    return 0


def stop(kafka: LocalKafka) -> int:
    """Stop the broker if it runs."""
    say("Kafka is stopped" if kafka.stop() else "Kafka was not running")
    return 0


def status(kafka: LocalKafka) -> int:
    """Print one line on stdout; 0 when the broker runs and answers."""
    found = kafka.status()
    print(found.text)
    return 0 if found.answers else 1


COMMANDS = {"start": start, "stop": stop, "status": status}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; options may stand before and after the command."""
    parser = argparse.ArgumentParser(
        prog="broker.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(config="config.yaml", set=[], set_after=[], kafka_version=None)
    add_options(parser, "set")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, does in [
        ("start", "start the broker, in the background"),
        ("stop", "stop it"),
        ("status", "say whether it runs and answers (exit code 0) or not (1)"),
        ("tool", "run one of Kafka's own tools, like kafka-topics"),
    ]:
        command = commands.add_parser(
            name,
            help=does,
            description=does,
            epilog=EXAMPLES,
            formatter_class=parser.formatter_class,
        )
        add_options(command, "set_after")
    command.add_argument("name", metavar="NAME", help="the tool, like kafka-topics")
    command.add_argument("arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="what the tool gets")
    return parser.parse_args(arguments)


def add_options(parser: argparse.ArgumentParser, overrides: str) -> None:
    """Add the options of every command; without defaults, which would hide what stands before it."""
    absent = argparse.SUPPRESS
    parser.add_argument("--config", metavar="FILE", default=absent, help="default: config.yaml")
    parser.add_argument(
        "--set",
        metavar="section.key=value",
        dest=overrides,
        action="append",
        default=absent,
        help="change one setting; may be repeated",
    )
    parser.add_argument(
        "--kafka-version",
        choices=("4.3.1", "2.4.0"),
        default=absent,
        help="the version to run (default: broker.version of the settings)",
    )


if __name__ == "__main__":
    run_script(main)
