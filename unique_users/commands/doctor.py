"""Check everything, say in plain words what is wrong and what to do, and change nothing.

It checks the configuration, the way to the brokers, TLS and the login, the topics and the rights to them, the
bucketers and counters and their progress, the frames, the clocks, the states and their disk. Each check has a time
limit, and is left out where it needs one that failed.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from unique_users.clients.connect import get_admin, get_reader
from unique_users.commands.arguments import add_format, argument_parser
from unique_users.config.load import load_config
from unique_users.doctor.checks import CHECKS
from unique_users.doctor.configuration import NAME as CONFIG
from unique_users.doctor.examination import Clock, Examination
from unique_users.doctor.finding import Finding, all_well, from_error, skipped
from unique_users.doctor.printing import as_json, lines
from unique_users.doctor.runner import examined
from unique_users.errors import UsageError

EXAMPLES = """\
  unique-users doctor                                         what is wrong, if anything
  unique-users doctor --json                                  the same as one JSON object
  unique-users doctor --set kafka.bootstrap_servers=kafka-1:9092"""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when nothing is wrong, 1 when something is, 2 for wrong arguments or configuration."""
    parser = argument_parser(__doc__, EXAMPLES)
    add_format(parser)
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    arguments = parser.parse_args(argv)
    try:
        config = load_config(arguments.config, arguments.set)
    except UsageError as error:
        findings = [from_error(CONFIG, error)]
        findings += [skipped(check.name, "it needs a configuration") for check in CHECKS[1:]]
        show(findings, arguments.format)
        return UsageError.exit_code
    examination = Examination(config, partial(get_admin, config), partial(get_reader, config), Clock())
    return 0 if all_well(show(examined(CHECKS, examination), arguments.format)) else 1


def show(findings: Iterable[Finding], form: str) -> list[Finding]:
    """Print what is found, as lines as soon as it is found. Returns it."""
    seen: list[Finding] = []

    def noted() -> Iterator[Finding]:
        for finding in findings:
            seen.append(finding)
            yield finding

    if form == "json":
        print(as_json(list(noted())))
    else:
        for line in lines(noted()):
            print(line, flush=True)
    return seen
