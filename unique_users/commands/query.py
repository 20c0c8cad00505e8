"""Print the exact number of unique users between two times, from what the counters have saved."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from unique_users.commands.arguments import add_format, argument_parser
from unique_users.config.load import load_config
from unique_users.errors import UsageError
from unique_users.event_time.buckets import INTERVALS, Calendar
from unique_users.queries.ranges import Range, answers, duration_seconds, last, minute_of
from unique_users.state.snapshot import SavedState, saved_partitions

EXAMPLES = """\
  unique-users query --from 2024-01-01T13:38:00Z --to 2024-01-01T13:41:00Z                 one number
  unique-users query --from 2024-01-01T13:38:00Z --to 2024-01-01T13:41:00Z --by minute     one for each minute
  unique-users query --last "2 minutes"                                                    up to the newest minute"""


def main(argv: Sequence[str]) -> int:
    """Print the answers; counters may keep running."""
    parser = argument_parser(__doc__, EXAMPLES)
    parser.add_argument("--from", dest="start", metavar="TIME", help="the first minute, such as 2024-01-01T13:38:00Z")
    parser.add_argument("--to", dest="end", metavar="TIME", help="the minute after the last one")
    parser.add_argument(
        "--last", metavar="DURATION", help='instead of both: "15 minutes", "24 hours"; minutes, hours, days or weeks'
    )
    parser.add_argument("--by", choices=INTERVALS, metavar="INTERVAL", help=f"one answer each: {', '.join(INTERVALS)}")
    add_format(parser)
    parser.add_argument(
        "--state",
        action="append",
        metavar="DIRECTORY",
        help="where the states are, instead of state.directory; repeat it if the counters use different directories",
    )
    arguments = parser.parse_args(argv)
    if (arguments.last is None) == (arguments.start is None) or (arguments.start is None) != (arguments.end is None):
        parser.error('expected --from TIME --to TIME, or --last "15 minutes"')
    config = load_config(arguments.config, arguments.set)
    directories = [Path(name) for name in arguments.state or [config.state.directory]]

    with ExitStack() as stack:
        states = opened(directories, config.topics.bucketed.name, stack)
        if arguments.last is not None:
            asked = last(states, duration_seconds(arguments.last))
        else:
            asked = Range(minute_of(arguments.start), minute_of(arguments.end))
        calendar = Calendar(config.counter.timezone)
        for answer in answers(states, asked, arguments.by, calendar):
            print(answer.line(arguments.format, arguments.by, calendar), flush=True)
    return 0


def opened(directories: Sequence[Path], topic: str, stack: ExitStack) -> list[SavedState]:
    """Return the newest state of every partition of a topic. Raises UsageError if one is missing, StateError."""
    newest: dict[int, SavedState] = {}
    for directory in directories:
        for partition in saved_partitions(directory, topic):
            state = stack.enter_context(SavedState(directory, topic, partition))
            other = newest.setdefault(partition, state)
            if (state.next_offset or 0) > (other.next_offset or 0):
                newest[partition] = state
    where = ", ".join(map(str, directories))
    if not newest:
        message = f"{where}: no state of topic {topic!r}: start counter.py, or name its directory with --state"
        raise UsageError(message)
    origins = {(state.origin.topic_id, state.origin.partitions) for state in newest.values()}
    if len(origins) > 1:
        message = f"{where}: states of different topics that are all named {topic!r}: move the old ones away"
        raise UsageError(message)
    ((_, partitions),) = origins
    if missing := sorted(set(range(partitions)) - newest.keys()):
        message = (
            f"{where}: no state of partition {', '.join(map(str, missing))} of {topic!r}:"
            " name the directories of all counters, with --state for each"
        )
        raise UsageError(message)
    return list(newest.values())
