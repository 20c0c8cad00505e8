"""Replay files of frames, or stdin, into the topic `feed`."""

import argparse
import logging
import sys
import time
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from unique_users.clients.connect import get_producer, when_broker_answers
from unique_users.clients.sending import BATCH_OVERHEAD_BYTES, Sending, dead_letters
from unique_users.clients.topic_watch import TopicWatch
from unique_users.clients.topics import asked_bytes_max, prepare_topics
from unique_users.commands.arguments import FILE_HELP, add_format, argument_parser, check_rate
from unique_users.commands.outputs import outputs
from unique_users.config.load import load_config
from unique_users.config.schema import Config
from unique_users.errors import InputError, UsageError
from unique_users.metrics.monitor import monitored
from unique_users.producer.frame_files import FrameFiles
from unique_users.producer.replay import Replay
from unique_users.producer.reporter import Reporter
from unique_users.runtime.log import log_to_stderr
from unique_users.runtime.service_manager import supervised
from unique_users.runtime.signals import stop_on_signals
from unique_users.runtime.watchdog import watched

_log = logging.getLogger(__name__)

EXAMPLES = """\
  python producer.py                                  the file named in config.yaml, as fast as possible
  python producer.py stream.gz --rate 1000            1,000 frames a second
  python producer.py monday.gz tuesday.gz             one after the other
  zcat stream.gz | python producer.py -               stdin"""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 only when every frame is acknowledged."""
    arguments = parse(argv)
    config = load_config(arguments.config, arguments.set)
    log_to_stderr(config.log.format)
    topics = config.topics

    with (
        FrameFiles(arguments.files or [config.producer.file]) as files,
        stop_on_signals() as stop,
        watched(config.health.stuck_seconds),
        supervised(stop) as process,
        monitored(config, "producer") as monitor,
    ):
        used = [topics.feed, topics.rejected]
        if not (admin := prepare_topics(config, [*used, *topics.optional], stop)):
            return 1
        watch = TopicWatch(admin, config, used)
        replay = Replay(
            with_progress(files),
            lambda: when_broker_answers(config, stop, lambda: new_sending(config)),
            (topics.feed.name, topics.rejected.name),
            stop,
            time.monotonic,
            arguments.rate,
        )
        to = outputs(config, arguments.format, "producer")
        reporter = Reporter(config.producer.report_seconds, files, replay, to, time.monotonic, time.time)
        if monitor.on:
            from unique_users.producer.metrics import ProducerSource  # noqa: PLC0415 - Prometheus's client takes 8 MB

            monitor.source = ProducerSource(replay)
        replay.open()
        process.ready()
        damage: InputError | UsageError | None = None
        try:
            while replay.step():
                if reporter.due():
                    replay.flush()  # otherwise a slow stream is seldom acknowledged
                    report_beside_bar(reporter)
        except (InputError, UsageError) as error:  # only here does a pipe turn out to hold something else
            damage = error
        complete = replay.flush()
        report_beside_bar(reporter)
        replay.close()
        watch.close()
        _log.info(summary(files, replay, stopped=stop.requested))
        if damage:
            raise damage
    return 0 if complete else 1


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line. Raises UsageError."""
    parser = argument_parser(__doc__, EXAMPLES)
    parser.add_argument("files", nargs="*", metavar="FILE", help=FILE_HELP)
    parser.add_argument("--rate", type=float, metavar="FRAMES_PER_SECOND", help="default: as fast as possible")
    add_format(parser)
    arguments = parser.parse_args(argv)
    if arguments.rate is not None:
        check_rate(arguments.rate)
    return arguments


def new_sending(config: Config) -> Sending:
    """Return a sender to `feed` and `rejected`, in batches they accept now. Raises BrokerAwayError, TopicError."""
    bytes_max = asked_bytes_max(config, config.topics.feed.name) - BATCH_OVERHEAD_BYTES
    producer = get_producer(config, config.producer.compression, bytes_max)
    return Sending(producer, dead_letters(config, asked_bytes_max))


def summary(files: FrameFiles, replay: Replay, *, stopped: bool) -> str:
    """What was sent, and what was not."""
    sent = replay.sent
    text = f"{sent.frames:,} frames acknowledged"
    if sent.cut:
        text += f", {sent.cut:,} lines too long for Kafka, sent to rejected"
    if files.blank_lines:
        text += f", {files.blank_lines:,} blank lines skipped"
    return text + (", stopped before the end" if stopped else "")


def report_beside_bar(reporter: Reporter) -> None:
    """Report on lines of their own where a progress bar shares the terminal."""
    with tqdm.external_write_mode():
        reporter.report()


def with_progress(files: FrameFiles) -> Iterator[list[bytes]]:
    """The files' frames, with a progress bar on a terminal."""
    bar = tqdm(total=files.bytes_total, unit="B", unit_scale=True, desc=files.path, disable=not sys.stderr.isatty())
    with bar:
        for frames in files:
            bar.update(files.bytes_read() - bar.n)
            yield frames
        bar.update(files.bytes_read() - bar.n)
