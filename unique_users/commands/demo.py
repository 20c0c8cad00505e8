"""Run everything on this machine, from an empty Kafka to counts checked against a plain recount."""

import argparse
import logging
import time
from collections.abc import Sequence

from unique_users.commands.arguments import argument_parser, check_rate, require_estimates
from unique_users.config.load import load_config
from unique_users.demo.scripts import Scripts
from unique_users.demo.steps import compare, exact_intervals, recounted, stream_file, wait_until_counted
from unique_users.demo.stop import stop_on_signals
from unique_users.demo.surroundings import kafka_place
from unique_users.event_time.buckets import Calendar

_log = logging.getLogger(__name__)

RATE = 6_000.0  # frames a second: the sample takes 5 s, long enough to watch the counts grow
EXAMPLES = """\
  unique-users demo                                         the stream.gz that is here, or else a sample
  unique-users demo --set producer.file=other.gz            another file
  unique-users demo --set kafka.bootstrap_servers=k1:9092,k2:9092    its own topics on a cluster, deleted at the end"""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when every count is exact, 1 when one is not or the demo did not finish."""
    arguments = parse(argv)
    config = load_config(arguments.config, arguments.set)
    require_estimates(config)
    exact_intervals(config)
    calendar = Calendar(config.counter.timezone)
    started = time.monotonic()

    with stop_on_signals() as stop:
        file = stream_file(config, stop)
        with kafka_place(config, stop) as settings:
            overrides = [*arguments.set, *settings]
            with Scripts(arguments.config, overrides, calendar, stop) as scripts:
                _log.info(f"replaying {file} at {arguments.rate:,.0f} frames a second; Ctrl-C stops")
                scripts.start("bucketer")
                scripts.start("counter", "--format", "json")
                scripts.run("producer", "--rate", str(arguments.rate))
                wait_until_counted(load_config(arguments.config, overrides), scripts)
                scripts.finish()
        exact = compare(scripts.counts, recounted(file, config, stop), calendar)
    print(f"{'exact' if exact else 'NOT exact'}: {file} in {time.monotonic() - started:.1f} s")
    return 0 if exact else 1


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line. Raises UsageError."""
    parser = argument_parser(__doc__, EXAMPLES)
    parser.add_argument("--rate", type=float, default=RATE, metavar="FRAMES_PER_SECOND", help=f"default: {RATE:,.0f}")
    arguments = parser.parse_args(argv)
    check_rate(arguments.rate)
    return arguments
