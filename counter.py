"""Print the number of unique users per minute, hour, … from the topic `bucketed`."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from unique_users.buckets import Calendar
from unique_users.clients import get_consumer, get_producer, leaving_on_error, when_broker_answers
from unique_users.command_line import argument_parser
from unique_users.config_checks import require_estimates
from unique_users.config_file import load_config
from unique_users.counting import Counting
from unique_users.lifecycle import run_script, say, stop_on_signals
from unique_users.publish import Publisher
from unique_users.store import Stores
from unique_users.topics import TopicWatch, ends_now, prepare_topics
from unique_users.watchdog import watched

EXAMPLES = """\
  python counter.py                                        a report every 60 seconds, until Ctrl-C
  python counter.py --until-caught-up --format json        all counts as they are now, as JSON lines
  python counter.py --set counter.report_seconds=5         a report every 5 seconds"""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when stopped by a signal or caught up."""
    parser = argument_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--until-caught-up",
        action="store_true",
        help="count what is in the topic now, report once, end",
    )
    parser.add_argument("--format", choices=["text", "json"], default="text", help="default: text")
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config, arguments.set)
    require_estimates(config)
    bucketed = config.topics.bucketed

    with stop_on_signals() as stop, watched(config.health.stuck_seconds):
        admin = prepare_topics(config, [bucketed, config.topics.counts], stop)
        consumer = when_broker_answers(
            config, stop, lambda: get_consumer(config, bucketed.name, config.counter.group, gathers=True)
        )
        if not admin or not consumer:
            return 0
        watch = TopicWatch(admin, bucketed.name)
        describe = partial(watch.current, bucketed.name)
        counting = Counting(
            config,
            consumer,
            describe,
            Stores(Path(config.state.directory)),
            lambda: Publisher(get_producer(config), config.topics.counts.name, Calendar(config.counter.timezone)),
            stop,
            time.monotonic,
            time.time,
            arguments.format,
            ends_now(consumer, describe()) if arguments.until_caught_up else None,
        )
        say(f"counter: reading {bucketed.name!r}, reporting every {config.counter.report_seconds:g} s; Ctrl-C stops")
        with leaving_on_error(consumer):
            while counting.step():
                pass
            counting.close()
        watch.close()
        say("counter: finished")
    return 0


if __name__ == "__main__":
    run_script(main)
