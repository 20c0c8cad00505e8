"""Re-key every frame of the topic `feed` by its minute into the topic `bucketed`."""

import argparse
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import asdict

from unique_users.bucketer.assigned_partitions import FeedPartitions
from unique_users.bucketer.loop import Bucketing
from unique_users.bucketer.rekey import Rekeyer
from unique_users.bucketer.reporter import Reporter
from unique_users.bucketer.writer import Writer, layout_of_bucketed
from unique_users.clients.connect import (
    get_admin,
    get_consumer,
    get_producer,
    get_record_lookup,
    leaving_on_error,
    reason_for_silence,
    when_broker_answers,
)
from unique_users.clients.renewing_consumer import RenewedConsumer
from unique_users.clients.sending import BATCH_OVERHEAD_BYTES, Sending, dead_letters
from unique_users.clients.topic_watch import TopicWatch
from unique_users.clients.topics import asked_bytes_max, high_watermark_offsets_now, prepare_topics
from unique_users.commands.arguments import add_format, argument_parser
from unique_users.commands.outputs import outputs
from unique_users.config.load import load_config
from unique_users.config.schema import Config
from unique_users.messages.bucketed import COMBINED_BYTES_MAX
from unique_users.messages.frame import FrameFormat
from unique_users.messages.frame_parser import FrameParser
from unique_users.messages.partitioning import Layout
from unique_users.metrics.monitor import Monitor, monitored
from unique_users.partition_log.cut_back import HistoryCheck
from unique_users.runtime.activity import LATENESS_BOUNDS_SECONDS, Distribution
from unique_users.runtime.log import log_to_stderr
from unique_users.runtime.service_manager import supervised
from unique_users.runtime.signals import stop_on_signals
from unique_users.runtime.watchdog import watched

if TYPE_CHECKING:
    from unique_users.bucketer.metrics import BucketerSource

_log = logging.getLogger(__name__)

EXAMPLES = """\
  python bucketer.py                                       run until Ctrl-C
  python bucketer.py --until-caught-up                     stop at the current end of the topic
  python bucketer.py --set frame.ts_unit=ms                event times are milliseconds"""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when stopped by a signal or caught up."""
    arguments = parse(argv)
    config = load_config(arguments.config, arguments.set)
    log_to_stderr(config.log.format)
    topics, feed = config.topics, config.topics.feed

    with (
        stop_on_signals() as stop,
        watched(config.health.stuck_seconds),
        supervised(stop) as process,
        monitored(config, "bucketer") as monitor,
    ):
        used = [feed, topics.bucketed, topics.rejected]
        admin = prepare_topics(config, [*used, *topics.optional], stop, reads=feed)
        new_consumer = partial(get_consumer, config, feed.name, config.bucketer.group, fewer_fetches=True)
        first = when_broker_answers(config, stop, new_consumer)
        if not admin or not first:
            return 0
        watch = TopicWatch(admin, config, used)
        began = when_broker_answers(config, stop, lambda: layout_of_bucketed(config, watch))
        if not began:
            return 0
        consumer = RenewedConsumer(first, new_consumer, partial(watch.recreated, feed.name))
        ends = high_watermark_offsets_now(consumer, watch.current(feed.name)) if arguments.until_caught_up else None
        look_up = partial(get_record_lookup, config, feed.name)
        history = HistoryCheck(feed.name, consumer, look_up, watch.answers)
        rekeyer = new_rekeyer(config, began)
        new_producer = partial(when_broker_answers, config, stop, lambda: new_sending(config, rekeyer))
        partitions = FeedPartitions(config, consumer, watch, history, ends)
        bucketing = Bucketing(
            config,
            partitions,
            Writer(config, watch, began, new_producer, partial(reason_for_silence, config, stop)),
            rekeyer,
            Reporter(config, partitions, outputs(config, arguments.format, "bucketer"), stop.monotonic, time.time),
            stop,
        )
        if monitor.on:
            monitor.source = new_source(monitor, config, bucketing, rekeyer)
        with leaving_on_error(consumer):
            bucketing.open()
            process.not_ready = partitions.not_ready
            _log.info(f"bucketer: reading {feed.name!r}, writing {topics.bucketed.name!r}; Ctrl-C stops")
            while bucketing.step():
                pass
            bucketing.close()
        watch.close()
        _log.info("bucketer: finished")
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argument_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--until-caught-up", action="store_true", help="exit once everything now in the topic is re-keyed"
    )
    add_format(parser)
    return parser.parse_args(argv)


def new_source(monitor: Monitor, config: Config, bucketing: Bucketing, rekeyer: Rekeyer) -> "BucketerSource":
    """Return what tells the metrics of a bucketer, with its lag; the rekeyer notes from now on how late frames are."""
    from unique_users.bucketer.metrics import BucketerSource  # noqa: PLC0415 - Prometheus's client takes 8 MB

    rekeyer.lateness = Distribution(LATENESS_BOUNDS_SECONDS)
    lag = monitor.watch_lag(partial(get_admin, config), config.bucketer.group, config.topics.feed.name)
    return BucketerSource(config, bucketing, rekeyer.lateness, lag)


def new_rekeyer(config: Config, layout: Layout) -> Rekeyer:
    """Return a rekeyer that judges and re-keys frames as configured."""
    rules = config.bucketer
    partitions = layout.partitions if rules.partition_by == "uid" else None
    parser = FrameParser(FrameFormat(**asdict(config.frame)))
    return Rekeyer(parser, rules.future_seconds_max, combine=rules.combine, partitions=partitions)


def new_sending(config: Config, rekeyer: Rekeyer) -> Sending:
    """Return a sender to `bucketed` and `rejected`, in batches they accept now. Raises BrokerAwayError, TopicError."""
    bytes_max = asked_bytes_max(config, config.topics.bucketed.name) - BATCH_OVERHEAD_BYTES
    rekeyer.combined_bytes_max = min(COMBINED_BYTES_MAX, bytes_max)
    return Sending(get_producer(config, batch_bytes_max=bytes_max), dead_letters(config, asked_bytes_max))
