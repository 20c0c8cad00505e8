"""Show the dead letters in the topic `rejected`, or send them to `feed` again."""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import closing

from unique_users.clients.connect import get_admin, get_producer, get_reader, saying_why_silent
from unique_users.clients.sending import BATCH_OVERHEAD_BYTES
from unique_users.clients.topics import asked_bytes_max, current_state, retention_ms
from unique_users.commands.arguments import add_format, argument_parser
from unique_users.config.load import load_config
from unique_users.config.schema import Config
from unique_users.messages.frame import Reason
from unique_users.queries.dead_letters import last_letters
from unique_users.queries.replayed_letters import Feed, LetterReplay, Outcome, may_be_record_time
from unique_users.runtime.signals import stop_on_signals

_log = logging.getLogger(__name__)

LIMIT = 20
EXAMPLES = """\
  unique-users rejected                                     the last 20
  unique-users rejected --reason bad_ts --limit all         all with one reason
  unique-users rejected --raw --limit all > rejected.jsonl  only the frames, as they came
  unique-users rejected --replay                            send to feed again, once a setting is corrected"""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when everything was shown, or every letter that can be replayed was acknowledged."""
    parser = argument_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--reason", choices=[reason.value for reason in Reason], help="only what was rejected for this reason"
    )
    parser.add_argument("--limit", metavar="N", help=f"show the last N, or `all`; default: {LIMIT}")
    parser.add_argument("--raw", action="store_true", help="only the values, one per line, unchanged")
    add_format(parser)
    parser.add_argument("--replay", action="store_true", help="send all of them to feed again")
    parser.add_argument("--again", action="store_true", help="with --replay: also what was replayed before")
    arguments = parser.parse_args(argv)
    if arguments.replay and (arguments.raw or arguments.limit is not None):
        parser.error("--raw and --limit do not go with --replay: it sends all, or all of one --reason")
    if arguments.again and not arguments.replay:
        parser.error("--again needs --replay")
    limit = checked_limit(parser, arguments.limit)
    config = load_config(arguments.config, arguments.set)

    with saying_why_silent(config):
        return _show_or_replay(config, arguments, limit)


def _show_or_replay(config: Config, arguments: argparse.Namespace, limit: int | None) -> int:
    topic = config.topics.rejected.name
    with closing(get_admin(config)) as admin:
        state = admin.describe(topic)
    if state is None:
        _log.info(f"topic {topic!r} does not exist: nothing has been rejected yet")
    elif arguments.replay:
        outcome = replayed(config, state.partitions, arguments.reason, again=arguments.again)
        print("\n".join(outcome.lines(arguments.format)))
        return 1 if outcome.stopped else 0
    elif not show(config, state.partitions, arguments, limit):
        _log.info(f"no dead letters in {topic!r}" + (f" with reason {arguments.reason}" if arguments.reason else ""))
    return 0


def checked_limit(parser: argparse.ArgumentParser, given: str | None) -> int | None:
    """The number of letters to show; None: all."""
    if given == "all":
        return None
    if given is None or (given.isascii() and given.isdecimal() and int(given[:19]) > 0):
        return LIMIT if given is None else int(given[:19])
    return parser.error("--limit: expected a number above 0, or `all`")


def show(config: Config, partitions: int, arguments: argparse.Namespace, limit: int | None) -> int:
    """Print dead letters. Returns how many there were."""
    shown = 0
    with closing(get_reader(config, config.topics.rejected.name)) as reader:
        for shown, found in enumerate(last_letters(reader, partitions, limit, arguments.reason), 1):  # noqa: B007
            if arguments.raw:
                sys.stdout.buffer.write(found.letter.value + b"\n")
            else:
                print(found.line(arguments.format))
    sys.stdout.buffer.flush()
    return shown


def replayed(config: Config, partitions: int, reason: str | None, *, again: bool) -> Outcome:
    """Send dead letters to `feed` again."""
    with closing(get_admin(config)) as admin:
        name = config.topics.feed.name
        state = current_state(admin, name)
        feed = Feed(name, state.partitions, retention_ms(admin, name), may_be_record_time(config.frame.ts))
    bytes_max = asked_bytes_max(config, name) - BATCH_OVERHEAD_BYTES
    with (
        stop_on_signals() as stop,
        closing(get_reader(config, config.topics.rejected.name, f"{config.bucketer.group}-replay")) as reader,
        closing(get_producer(config, config.producer.compression, bytes_max)) as producer,
    ):
        replay = LetterReplay(reader, producer, feed, int(time.time() * 1000), lambda: stop.requested)
        return replay.run(range(partitions), reason, again=again)
