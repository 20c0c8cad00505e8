"""Copy the published counts into a PostgreSQL table, and keep it up to date."""

import logging
from collections.abc import Sequence
from functools import partial

from unique_users.clients.connect import get_admin, get_reader, get_record_lookup, reason_for_silence
from unique_users.commands.arguments import argument_parser
from unique_users.config.load import load_config
from unique_users.exports.loop import Connections, Export
from unique_users.exports.postgres import Table, checked
from unique_users.runtime.log import log_to_stderr
from unique_users.runtime.signals import stop_on_signals

_log = logging.getLogger(__name__)

EXAMPLES = """\
  unique-users export postgres                             until Ctrl-C, to the database that PGHOST … name
  unique-users export postgres --until-caught-up           copy what is published now, then end: for cron
  unique-users export postgres --set postgres.table=stats.unique_users"""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when stopped by a signal or caught up."""
    parser = argument_parser(__doc__, EXAMPLES)
    parser.add_argument("target", choices=["postgres"], help="where to copy the counts")
    parser.add_argument("--until-caught-up", action="store_true", help="copy what the topic holds now, then end")
    parser.add_argument(
        "--from-start",
        action="store_true",
        help="read the topic from its start again, even if the rows came from another topic; they stay",
    )
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config, arguments.set)
    log_to_stderr(config.log.format)
    settings = checked(config.postgres)
    topic = config.topics.counts.name

    with stop_on_signals() as stop:
        connections = Connections(
            topic,
            partial(get_reader, config, topic),
            partial(get_record_lookup, config, topic),
            partial(get_admin, config),
            partial(Table, settings),
        )
        export = Export(
            connections,
            stop,
            partial(reason_for_silence, config, stop),
            until_caught_up=arguments.until_caught_up,
            from_start=arguments.from_start,
        )
        _log.info(f"export: copying {topic!r} to the table {settings.table!r}; Ctrl-C stops")
        export.run()
        _log.info("export: finished")
    return 0
