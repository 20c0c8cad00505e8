"""Start, stop and inspect a local Kafka for development and tests, or run one of Kafka's own tools."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from unique_users.commands.arguments import CONFIG_FILE, Parser, default_config
from unique_users.config.load import load_config
from unique_users.local_kafka.broker import LocalKafka, local_address
from unique_users.local_kafka.cluster import PORT_MAX, LocalCluster, local_kafka
from unique_users.local_kafka.java_process import shown
from unique_users.local_kafka.metrics import DEFAULT_PORT, Metrics
from unique_users.local_kafka.tools import tool
from unique_users.runtime.signals import stop_on_signals

_log = logging.getLogger(__name__)

EXAMPLES = """\
examples:
  unique-users broker start
  unique-users broker status
  unique-users broker tool kafka-topics --list
  unique-users broker tool kafka-console-producer --topic feed < frames.json
  unique-users broker tool kafka-consumer-groups --describe --all-groups
  unique-users broker stop
  unique-users broker start --kafka-version 2.4.0 --set broker.data=data-2.4
  unique-users broker start --nodes 3 --set broker.data=data-3
  unique-users broker start --secure --set broker.data=data-secure
  unique-users broker start --metrics

Put options before the tool's name; everything after it is passed to the tool.
"""

NODES_MAX = 9


def main(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code: 0 done, 1 failed (or `status`: not running), 2 wrong usage."""
    options = parse(arguments)
    config = load_config(options.config, options.set + options.set_after)
    version = options.kafka_version or config.broker.version
    servers = ",".join(config.bootstrap_servers)
    address = local_address(config.bootstrap_servers)
    if address is None and options.command == "tool":
        return run_tool(version, options, servers)
    if address is None:
        _log.info(f"kafka.bootstrap_servers is {servers}, not a loopback address: the local Kafka is left alone")
        return 0
    metrics = None if options.metrics is None else Metrics(options.metrics)
    kafka = local_kafka(version, Path(config.broker.data), address, options.nodes, metrics, secure=options.secure)
    if options.command == "tool":
        secured = None if kafka.security is None else kafka.security.tool_settings
        return run_tool(version, options, kafka.bootstrap_servers, secured)
    return COMMANDS[options.command](kafka)


def run_tool(version: str, options: argparse.Namespace, servers: str, client_settings: Path | None = None) -> int:
    """Run one of Kafka's own tools until it exits or a signal stops it."""
    with stop_on_signals() as stop:
        return tool(version, options.name, options.arguments, servers, client_settings, lambda: stop.requested)


def start(kafka: LocalKafka | LocalCluster) -> int:
    """Start the broker unless it is running."""
    started = kafka.start()
    _log.info(("started: " if started else "already there: ") + kafka.status().text)
    if kafka.metrics is not None:
        nodes = kafka.nodes if isinstance(kafka, LocalCluster) else [kafka]
        _log.info(f"metrics: {', '.join(node.metrics.url for node in nodes if node.metrics)}")
    if kafka.security is not None:
        _log.info(f"secured: run the scripts with --config {shown(kafka.security.config('admin'))}, or another user's")
    return 0


def stop(kafka: LocalKafka | LocalCluster) -> int:
    """Stop the broker if it is running."""
    _log.info("Kafka is stopped" if kafka.stop() else "Kafka was not running")
    return 0


def status(kafka: LocalKafka | LocalCluster) -> int:
    """Print one line on stdout. Returns 0 if the broker is running and answers."""
    found = kafka.status()
    print(found.text)
    return 0 if found.answers else 1


COMMANDS = {"start": start, "stop": stop, "status": status}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; options may come before or after the command."""
    parser = Parser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(
        config=default_config(), set=[], set_after=[], kafka_version=None, nodes=None, secure=False, metrics=None
    )
    add_options(parser, "set")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, does in [
        ("start", "start the broker, in the background"),
        ("stop", "stop it"),
        ("status", "say whether it is running and answers (exit code 0) or not (1)"),
        ("tool", "run one of Kafka's own tools, such as kafka-topics"),
    ]:
        command = commands.add_parser(
            name,
            help=does,
            description=does,
            epilog=EXAMPLES,
            formatter_class=parser.formatter_class,
        )
        add_options(command, "set_after")
        if name == "start":
            add_start_options(command)
    command.add_argument("name", metavar="NAME", help="the tool, such as kafka-topics")
    command.add_argument("arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="arguments for the tool")
    return parser.parse_args(arguments)


def add_options(parser: argparse.ArgumentParser, overrides: str) -> None:
    """Add the options of every command, without defaults: those would override options given before the command."""
    absent = argparse.SUPPRESS
    parser.add_argument("--config", metavar="FILE", default=absent, help=f"default: {CONFIG_FILE}")
    parser.add_argument(
        "--set",
        metavar="section.key=value",
        dest=overrides,
        action="append",
        default=absent,
        help="use this value instead of the file's; repeatable",
    )
    parser.add_argument(
        "--kafka-version",
        choices=("4.3.1", "2.4.0"),
        default=absent,
        help="the version to run (default: broker.version)",
    )


def add_start_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for a new data directory; the other commands find their values in it."""
    parser.add_argument("--nodes", type=nodes, metavar="N", help="start a cluster of N brokers, up to 9 (default: 1)")
    parser.add_argument(
        "--secure", action="store_true", help="with TLS, passwords and access rights; see docs/operations.md"
    )
    parser.add_argument(
        "--metrics",
        type=port,
        nargs="?",
        const=DEFAULT_PORT,
        metavar="PORT",
        help=f"serve Kafka's metrics for Prometheus at 127.0.0.1:PORT (default: {DEFAULT_PORT}); with several"
        " nodes, each further one at the next port",
    )


def port(text: str) -> int:
    """Parse a port, with room for those of more nodes behind it."""
    number = int(text)
    if not 1 <= number <= PORT_MAX - NODES_MAX:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to {PORT_MAX - NODES_MAX}, got {number}")
    return number


def nodes(text: str) -> int:
    """Parse the number of nodes."""
    number = int(text)
    if not 1 <= number <= NODES_MAX:
        raise argparse.ArgumentTypeError(f"expected 1 to {NODES_MAX}, got {number}")
    return number
