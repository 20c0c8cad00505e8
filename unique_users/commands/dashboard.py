"""Serve a live page of the published counts, and answer questions about them as JSON and CSV."""

import logging
import os
from collections.abc import Sequence
from functools import partial

from unique_users.clients.connect import get_admin, get_reader
from unique_users.commands.arguments import argument_parser
from unique_users.config.load import load_config
from unique_users.dashboard.access import TOKEN_CHARACTERS_MIN, TOKEN_NAME, is_loopback
from unique_users.dashboard.follower import Follower
from unique_users.dashboard.server import address_of, listening, serve
from unique_users.errors import UsageError
from unique_users.metrics.monitor import monitored
from unique_users.runtime.log import log_to_stderr
from unique_users.runtime.service_manager import supervised
from unique_users.runtime.signals import stop_on_signals

_log = logging.getLogger(__name__)

EXAMPLES = """\
  unique-users dashboard                                              at http://127.0.0.1:8360/, until Ctrl-C
  unique-users dashboard --set dashboard.port=0                       at any free port
  unique-users dashboard --set dashboard.host=0.0.0.0                 for others too, who need the token in
                                                                      UNIQUE_USERS_DASHBOARD_TOKEN"""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when stopped by a signal."""
    parser = argument_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--no-token", action="store_true", help="let anyone who reaches the page see it, also beyond this machine"
    )
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config, arguments.set)
    log_to_stderr(config.log.format)
    host = config.dashboard.host
    token = required_token(host, os.environ.get(TOKEN_NAME, ""), no_token=arguments.no_token)

    with stop_on_signals() as stop, supervised(stop) as process, monitored(config, "dashboard") as monitor:
        topic = config.topics.counts.name
        listener = listening(host, config.dashboard.port)
        new_follower = partial(Follower, config, partial(get_reader, config, topic), partial(get_admin, config))
        _log.info(f"dashboard: {address_of(listener, host, config.dashboard.prefix)} shows {topic!r}; Ctrl-C stops")
        process.ready()
        serve(config, listener, token, new_follower, stop, monitor)
        _log.info("dashboard: finished")
    return 0


def required_token(host: str, given: str, *, no_token: bool) -> str:
    """The token to ask for; empty for none. Raises UsageError if there should be one."""
    if no_token:
        return ""
    if not given and not is_loopback(host):
        raise UsageError(
            f"dashboard.host: {host} is not loopback, so others can reach the page: put a token into the environment as"
            f" {TOKEN_NAME}, or say --no-token"
        )
    if given and len(given) < TOKEN_CHARACTERS_MIN:
        raise UsageError(f"{TOKEN_NAME}: expected at least {TOKEN_CHARACTERS_MIN} characters")
    return given
