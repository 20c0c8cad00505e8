"""Show, check, back up and restore the counters' saved states.

show     print what each state holds; counters may keep running
check    read each state in full and compare it with its counts; counters may keep running
backup   copy each state, as last saved, into DIRECTORY; counters may keep running
restore  replace the states with the copies in DIRECTORY; stop the counters first
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from unique_users.aggregation.counts import users_in
from unique_users.commands.arguments import add_format, argument_parser, require_estimates
from unique_users.config.load import load_config
from unique_users.errors import StateError
from unique_users.event_time.buckets import MINUTE, iso_time
from unique_users.reports.bucket_count import Format
from unique_users.state.backups import StateName, backed_up, checked, restored, states_in, states_of_every_name

_log = logging.getLogger(__name__)

EXAMPLES = """\
  unique-users state show                     the states in state.directory
  unique-users state show --format json       one JSON line for each
  unique-users state check                    exit code 0 only when all are whole
  unique-users state check backup             the same for the copies in `backup`
  unique-users state backup backup            copies into the directory `backup`, which is created
  unique-users state restore backup           once the counters are stopped"""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when everything succeeded and every state is whole."""
    parser = argument_parser(__doc__, EXAMPLES)
    parser.add_argument("command", choices=["show", "check", "backup", "restore"])
    parser.add_argument(
        "directory", nargs="?", metavar="DIRECTORY", help="of the copies; default for show and check: state.directory"
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="states of every topic and, for show and check, of every `name`",
    )
    add_format(parser, "output of show")
    arguments = parser.parse_args(argv)
    if arguments.directory is None and arguments.command in {"backup", "restore"}:
        parser.error(f"{arguments.command}: name the DIRECTORY of the copies")
    config = load_config(arguments.config, arguments.set)
    require_estimates(config)
    topic = None if arguments.all else config.topics.bucketed.name
    own = Path(config.state.directory)
    named = Path(arguments.directory or own)

    if arguments.command in {"show", "check"}:
        base = own.parent if config.name and arguments.directory is None else named
        states = states_of_every_name(base) if arguments.all else states_in(named, topic)
        if arguments.command == "check":
            return for_each(states, check)
        return for_each(states, lambda state: print(shown(state, arguments.format)))
    if arguments.command == "backup":
        for copy, offset in backed_up(states_in(own, topic), named):
            print(f"{copy.path}: {copy.path.stat().st_size:,} bytes, up to offset {offset or 0:,}", flush=True)
        return 0
    for state, offset, aside in restored(states_in(named, topic), own):
        former = f"; the former state is {aside}" if aside else ""
        print(f"{state.path}: restored, up to offset {offset or 0:,}{former}", flush=True)
    return for_each(states_in(own, topic), lambda state: checked(state, users=False))


def for_each(states: Sequence[StateName], action: Callable[[StateName], None]) -> int:
    """Run an action on every state, even after one has failed. Returns the exit code."""
    failed = 0
    for state in states:
        try:
            action(state)
        except StateError as error:
            failed += 1
            _log.error(error)
    return 1 if failed else 0


def check(state: StateName) -> None:
    """Check a state and say that it is whole. Raises StateError."""
    checked(state)
    print(f"{state.path}: whole", flush=True)


def shown(state: StateName, form: Format) -> str:
    """What a state holds: one JSON line, or a line of text plus one for each interval. Raises StateError."""
    fields = summary(state)
    if form == "json":
        return orjson.dumps(fields).decode()
    begin, end = fields["oldest_minute"], fields["newest_minute"]
    times = f"{begin} to {end}" if begin else "no minute"
    name, offset = f"{fields['topic']}-{fields['partition']}", fields["next_offset"] or 0
    lines = [f"{name}  of {fields['partitions']}  next offset {offset:,}  {times}  {fields['bytes']:,} bytes"]
    for each in fields["intervals"]:
        about = " (estimated)" if each["kind"] == "estimate" else ""
        lines.append(f"  {each['interval']}  {each['buckets']:,} buckets  {each['users']:,} users{about}")
    return "\n".join(lines)


def summary(state: StateName) -> dict[str, Any]:
    """What a state holds. `users` is the sum over all buckets."""
    with state.open() as saved:
        counts, origin = saved.counts, saved.origin
        buckets, users = Counter[str](), Counter[str]()
        for bucket, count in counts.items():
            buckets[bucket.interval] += 1
            users[bucket.interval] += users_in(count)
        minutes = [bucket.start for bucket in counts if bucket.interval == MINUTE.name]
        return {
            "topic": origin.topic,
            "partition": origin.partition,
            "partitions": origin.partitions,
            "file": str(state.path),
            "intervals": [
                {"interval": name, "kind": rule.kind, "buckets": buckets[name], "users": users[name]}
                for name, rule in saved.intervals.items()
            ],
            "next_offset": saved.next_offset,
            "oldest_minute": iso_time(min(minutes)) if minutes else None,
            "newest_minute": iso_time(max(minutes)) if minutes else None,
            "bytes": sum(path.stat().st_size for path in state.path.parent.glob(f"{state.path.name}*")),
        }
