"""Re-key every frame of the topic `feed` by its minute into the topic `bucketed`."""

import time
from collections.abc import Sequence
from functools import partial

from msgspec.structs import asdict

from unique_users.bucketing import Bucketing
from unique_users.clients import get_consumer, get_producer, leaving_on_error, when_broker_answers
from unique_users.command_line import argument_parser
from unique_users.config_file import load_config
from unique_users.frames import FrameParser
from unique_users.layout import Layout
from unique_users.lifecycle import run_script, say, stop_on_signals
from unique_users.rekey import Rekeyer
from unique_users.topics import TopicWatch, ends_now, prepare_topics
from unique_users.watchdog import watched

EXAMPLES = """\
  python bucketer.py                                       run until Ctrl-C
  python bucketer.py --until-caught-up                     end where the topic ends now
  python bucketer.py --set frame.ts_unit=ms                event times are milliseconds"""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when stopped by a signal or caught up."""
    parser = argument_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--until-caught-up", action="store_true", help="end when all that is in the topic now is re-keyed"
    )
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config, arguments.set)
    topics = config.topics

    with stop_on_signals() as stop, watched(config.health.stuck_seconds):
        admin = prepare_topics(config, [topics.feed, topics.bucketed, topics.rejected], stop)
        consumer = when_broker_answers(
            config, stop, lambda: get_consumer(config, topics.feed.name, config.bucketer.group, gathers=True)
        )
        if not admin or not consumer:
            return 0
        watch = TopicWatch(admin, topics.feed.name, topics.bucketed.name)
        describe = partial(watch.current, topics.feed.name)
        by = config.bucketer.partition_by

        def layout() -> Layout:
            bucketed = watch.current(topics.bucketed.name)
            return Layout(bucketed.id, by, bucketed.partitions)

        began = when_broker_answers(config, stop, layout)
        if not began:
            return 0
        bucketing = Bucketing(
            config,
            consumer,
            describe,
            began,
            layout,
            lambda: when_broker_answers(config, stop, lambda: get_producer(config)),
            Rekeyer(
                FrameParser(**asdict(config.frame)),
                config.bucketer.future_seconds_max,
                combine=config.bucketer.combine,
                partitions=began.partitions if by == "uid" else None,
            ),
            stop,
            time.monotonic,
            ends_now(consumer, describe()) if arguments.until_caught_up else None,
        )
        bucketing.open()
        say(f"bucketer: reading {topics.feed.name!r}, writing {topics.bucketed.name!r}; Ctrl-C stops")
        with leaving_on_error(consumer):
            while bucketing.step():
                pass
            bucketing.close()
        watch.close()
        say("bucketer: finished")
    return 0


if __name__ == "__main__":
    run_script(main)
