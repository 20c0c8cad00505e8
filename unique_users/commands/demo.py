"""Run everything on this machine, from an empty Kafka to counts checked against a plain recount."""

import argparse
import logging
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread

from unique_users.commands.arguments import argument_parser, check_rate, require_estimates
from unique_users.config.load import load_config
from unique_users.config.schema import Config
from unique_users.demo.live import LiveFrames, feed
from unique_users.demo.scripts import Scripts
from unique_users.demo.steps import compare, exact_intervals, recounted, stream_file, wait_until_counted
from unique_users.demo.stop import StoppedError, stop_on_signals
from unique_users.demo.surroundings import kafka_place
from unique_users.event_time.buckets import Calendar

_log = logging.getLogger(__name__)

RATE = 6_000.0  # frames a second: the sample takes 5 s, long enough to watch the counts grow
LIVE_RATE = 20.0  # at the busiest time of the day
EXAMPLES = """\
  unique-users demo --live                                  a stream that never ends, and a page of it, until Ctrl-C
  unique-users demo                                         the stream.gz that is here, or else a sample
  unique-users demo --set producer.file=other.gz            another file
  unique-users demo --set kafka.bootstrap_servers=k1:9092,k2:9092    its own topics on a cluster, deleted at the end"""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when every count is exact, 1 when one is not or the demo did not finish."""
    arguments = parse(argv)
    config = load_config(arguments.config, arguments.set)
    require_estimates(config)
    if arguments.live:
        return live(arguments, config)
    exact_intervals(config)
    calendar = Calendar(config.counter.timezone)
    rate = arguments.rate or RATE
    started = time.monotonic()

    with stop_on_signals() as stop:
        file = stream_file(config, stop)
        with kafka_place(config, stop) as settings:
            overrides = [*arguments.set, *settings]
            with Scripts(arguments.config, overrides, calendar, stop) as scripts:
                _log.info(f"replaying {file} at {rate:,.0f} frames a second; Ctrl-C stops")
                scripts.start("bucketer")
                scripts.start("counter", "--format", "json")
                scripts.start_dashboard()
                scripts.run("producer", "--rate", str(rate))
                wait_until_counted(load_config(arguments.config, overrides), scripts)
                scripts.finish()
        exact = compare(scripts.counts, recounted(file, config, stop), calendar)
    print(f"{'exact' if exact else 'NOT exact'}: {file} in {time.monotonic() - started:.1f} s")
    return 0 if exact else 1


def live(arguments: argparse.Namespace, config: Config) -> int:
    """Keep a stream going until a stop is requested. Exit code 0 then."""
    calendar = Calendar(config.counter.timezone)
    rate = arguments.rate or LIVE_RATE
    with stop_on_signals() as stop, kafka_place(config, stop) as settings:
        overrides = [*arguments.set, *settings, "counter.report_seconds=60"]
        with Scripts(arguments.config, overrides, calendar, stop, prints_counts=False) as scripts:
            _log.info(f"up to {rate:,.0f} frames a second, as busy as the time of day; first the last 26 hours")
            scripts.start("bucketer")
            scripts.start("counter", "--format", "json")
            scripts.start_dashboard()
            pipe = scripts.start("producer", "-", stdin=subprocess.PIPE)
            assert pipe is not None
            Thread(target=feed, args=(pipe.buffer, LiveFrames(rate), stop), daemon=True).start()  # type: ignore[attr-defined]
            with suppress(StoppedError):
                while True:
                    scripts.attend()
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line. Raises UsageError."""
    parser = argument_parser(__doc__, EXAMPLES)
    parser.add_argument("--live", action="store_true", help="keep a stream with a daily rhythm going until Ctrl-C")
    parser.add_argument(
        "--rate",
        type=float,
        metavar="FRAMES_PER_SECOND",
        help=f"default: {RATE:,.0f}; with --live {LIVE_RATE:,.0f} at the busiest time of the day",
    )
    arguments = parser.parse_args(argv)
    if arguments.rate is not None:
        check_rate(arguments.rate)
    return arguments
