"""Ask a bucketer, counter, producer or dashboard on this machine whether it is healthy.

It asks at `metrics.port`, so give it the configuration that the process was started with. The container image uses it
as its health check, so it needs no curl.
"""

from collections.abc import Sequence

from unique_users.commands.arguments import argument_parser
from unique_users.config.load import load_config
from unique_users.metrics.asking import asked

EXAMPLES = """\
  unique-users healthy --set metrics.port=9402              exit code 0 unless it is stuck
  unique-users healthy --set metrics.port=9402 --ready      exit code 0 only if it can do its work"""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 if it is healthy, 1 if it is not or does not answer."""
    parser = argument_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--ready", action="store_true", help="ask whether it can do its work: the broker answers, it has partitions"
    )
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config, arguments.set)
    answer = asked(config.metrics, "/readyz" if arguments.ready else "/healthz")
    print(answer.said)
    return 0 if answer.well else 1
