"""Count the unique users per minute of a file exactly, with plain sets and without Kafka."""

import logging
import sys
import time
from collections.abc import Sequence
from itertools import chain

from unique_users.aggregation.completeness import words
from unique_users.commands.arguments import argument_parser, require_estimates
from unique_users.commands.published import read_published
from unique_users.config.load import load_config
from unique_users.event_time.buckets import Calendar
from unique_users.producer.frame_files import FrameFile
from unique_users.queries.recount import differences, recount, require_accepted

_log = logging.getLogger(__name__)

EXAMPLES = """\
  unique-users recount stream.gz                       the counts
  unique-users recount stream.gz --format json         as JSON lines, like counter.py's
  unique-users recount stream.gz --against counts      compare with the published counts"""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when the whole file was counted and, with `--against`, counts were compared and none differ."""
    parser = argument_parser(__doc__, EXAMPLES)
    parser.add_argument("file", metavar="FILE", help="gzip, zstd or plain; `-` is stdin")
    parser.add_argument("--format", choices=["text", "json"], default="text", help="output format; default: text")
    parser.add_argument("--against", choices=["counts"], help="print where the published counts differ")
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config, arguments.set)
    require_estimates(config)

    with FrameFile(arguments.file) as file:
        result = recount(chain.from_iterable(file), config, int(time.time() * 1000))
    _log.info(str(result.counts))
    if arguments.against:
        require_accepted(result, file.path, file.blank_lines_first)
    calendar = Calendar(config.counter.timezone)
    buckets = result.buckets(config.counter.intervals, calendar, config.counter.estimates)
    if not arguments.against:
        sys.stdout.writelines(bucket.line(arguments.format, calendar) + "\n" for bucket in buckets)
        return 0
    published = read_published(config).merged()
    counted = {bucket: found for bucket, found in published.items() if bucket.interval in config.counter.intervals}
    why = {bucket: found.why for bucket, found in counted.items() if found.why}
    different = differences(buckets, {bucket: found.total for bucket, found in counted.items()}, why)
    sys.stdout.writelines(difference.line(arguments.format, calendar) + "\n" for difference in different)
    _log.info(f"{len(different)} of {len(buckets)} buckets differ" if different else "exact: no bucket differs")
    for bucket, reasons in sorted(why.items()):
        if bucket not in {difference.bucket for difference in different}:
            _log.info(f"{calendar.text(bucket)}  {bucket.interval}  does not differ{words(reasons)}")
    return 1 if different else 0
