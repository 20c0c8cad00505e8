"""Print the number of unique users per minute, hour, … from the topic `bucketed`."""

import argparse
import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from unique_users.clients.connect import (
    get_admin,
    get_consumer,
    get_producer,
    get_record_lookup,
    leaving_on_error,
    when_broker_answers,
)
from unique_users.clients.renewing_consumer import RenewedConsumer
from unique_users.clients.sending import Sending, dead_letters
from unique_users.clients.topic_watch import TopicWatch
from unique_users.clients.topics import asked_bytes_max, high_watermark_offsets_now, prepare_topics
from unique_users.commands.arguments import add_format, argument_parser, require_estimates
from unique_users.commands.outputs import outputs
from unique_users.commands.published import read_published
from unique_users.config.load import load_config
from unique_users.config.names import check_moved
from unique_users.config.schema import Config
from unique_users.counter.assigned_partitions import CountedPartitions
from unique_users.counter.counts_topic import Publisher
from unique_users.counter.drop_guard import RETENTION
from unique_users.counter.loop import Counting
from unique_users.counter.publishing import Publishing
from unique_users.counter.recovery import Recovery
from unique_users.counter.reporter import Reporter
from unique_users.event_time.buckets import INTERVALS, Calendar
from unique_users.metrics.lag_watch import LOOK_SECONDS
from unique_users.metrics.monitor import Monitor, monitored
from unique_users.partition_log.cut_back import HistoryCheck
from unique_users.pipeline.progress_watch import ProgressWatch
from unique_users.runtime.log import log_to_stderr
from unique_users.runtime.service_manager import supervised
from unique_users.runtime.signals import stop_on_signals
from unique_users.runtime.timer import Timer
from unique_users.runtime.watchdog import watched
from unique_users.state.store import Stores

if TYPE_CHECKING:
    from unique_users.counter.metrics import CounterSource

_log = logging.getLogger(__name__)

EXAMPLES = """\
  python counter.py                                        a report every 60 seconds, until Ctrl-C
  python counter.py --until-caught-up --format json        all counts as of now, as JSON lines
  python counter.py --set counter.report_seconds=5         a report every 5 seconds"""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when stopped by a signal or caught up."""
    arguments = parse(argv)
    config = load_config(arguments.config, arguments.set)
    check_moved(config, arguments.config)
    log_to_stderr(config.log.format)
    require_estimates(config)
    topics, bucketed = config.topics, config.topics.bucketed
    with (
        stop_on_signals() as stop,
        watched(config.health.stuck_seconds),
        supervised(stop) as process,
        monitored(config, "counter") as monitor,
    ):
        used = [bucketed, topics.counts, topics.rejected]
        admin = prepare_topics(config, [*used, *topics.optional], stop, reads=bucketed)
        new_consumer = partial(get_consumer, config, bucketed.name, config.counter.group, fewer_fetches=True)
        first = when_broker_answers(config, stop, new_consumer)
        if not admin or not first:
            return 0
        watch = TopicWatch(admin, config, used)
        consumer = RenewedConsumer(first, new_consumer, partial(watch.recreated, bucketed.name))
        ends = high_watermark_offsets_now(consumer, watch.current(bucketed.name)) if arguments.until_caught_up else None
        look_up = partial(get_record_lookup, config, bucketed.name)
        history = HistoryCheck(bucketed.name, consumer, look_up, watch.answers)
        recovery = Recovery(config, consumer, watch, Stores(Path(config.state.directory)), history, arguments.drop)
        partitions = CountedPartitions(config, consumer, watch, recovery, stop, ends)
        line = ProgressWatch(partial(get_admin, config), config)
        counting = Counting(
            config,
            partitions,
            Publishing(config, watch, partial(new_publisher, config), partial(read_published, config), stop.monotonic),
            Reporter(config, partitions, line, outputs(config, arguments.format, "counter"), stop.monotonic, time.time),
            line,
            stop,
        )
        source = monitor.source = new_source(monitor, config, partitions) if monitor.on else None
        process.not_ready = partitions.not_ready
        every_seconds = config.counter.report_seconds
        _log.info(f"counter: reading {bucketed.name!r}, reporting every {every_seconds:g} s; Ctrl-C stops")
        look = Timer(LOOK_SECONDS, stop.monotonic)
        with leaving_on_error(consumer):
            while counting.step():
                if source and look.due():
                    source.look()
            counting.close()
        line.close()
        watch.close()
        _log.info("counter: finished")
    return 0


def new_source(monitor: Monitor, config: Config, partitions: CountedPartitions) -> "CounterSource":
    """Return what tells the metrics of a counter, with its lag."""
    from unique_users.counter.metrics import CounterSource  # noqa: PLC0415 - Prometheus's client takes 8 MB

    lag = monitor.watch_lag(partial(get_admin, config), config.counter.group, config.topics.bucketed.name)
    return CounterSource(config, partitions, lag)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argument_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--until-caught-up",
        action="store_true",
        help="count what is in the topic now, report once, exit",
    )
    add_format(parser)
    parser.add_argument(
        "--drop",
        action="append",
        default=[],
        choices=[*INTERVALS, RETENTION],
        metavar="NAME",
        help="give up what the state holds of an interval that is no longer counted this way, or (`retention`) what"
        " a shorter retention no longer keeps; repeatable",
    )
    return parser.parse_args(argv)


def new_publisher(config: Config) -> Publisher:
    """Return a publisher of counts; it sends late records the way the bucketer sends its dead letters."""
    topics = config.topics
    sending = Sending(get_producer(config), dead_letters(config, asked_bytes_max))
    return Publisher(sending, topics.counts.name, Calendar(config.counter.timezone), topics.rejected.name)
