"""Count the unique users per minute in files exactly, with plain sets and without Kafka."""

import logging
import sys
import time
from collections.abc import Sequence
from itertools import chain

from unique_users.aggregation.completeness import words
from unique_users.clients.connect import saying_why_silent
from unique_users.commands.arguments import FILE_HELP, add_format, argument_parser, require_estimates
from unique_users.commands.published import read_published
from unique_users.config.load import load_config
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.producer.frame_files import FrameFiles
from unique_users.queries.comparison import Verdict, accepted_words, differences, no_longer_kept, within_time
from unique_users.queries.recount import recount, require_accepted

_log = logging.getLogger(__name__)

EXAMPLES = """\
  unique-users recount stream.gz                       the counts
  unique-users recount stream.gz --format json         as JSON lines, like counter.py's
  unique-users recount stream.gz --against counts      compare with the published counts
  unique-users recount monday.gz tuesday.gz            the frames of both, in this order"""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when the whole file was counted and, with `--against`, counts were compared and none differ."""
    parser = argument_parser(__doc__, EXAMPLES)
    parser.add_argument("files", nargs="+", metavar="FILE", help=FILE_HELP)
    add_format(parser)
    parser.add_argument("--against", choices=["counts"], help="print where the published counts differ")
    parser.add_argument("--all", action="store_true", help="also compare what is published outside the files' time")
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config, arguments.set)
    require_estimates(config)

    with FrameFiles(arguments.files) as files:
        result = recount(chain.from_iterable(files), config, int(time.time() * 1000))
    _log.info(accepted_words(result.counts))
    for line in result.rejected_lines(files.skipped_lines):
        _log.info(line)
    if arguments.against:
        require_accepted(result, files.path, files.skipped_lines)
    calendar = Calendar(config.counter.timezone)
    buckets = result.buckets(config.counter.intervals, calendar, config.counter.estimates)
    if not arguments.against:
        sys.stdout.writelines(bucket.line(arguments.format, calendar) + "\n" for bucket in buckets)
        return 0
    with saying_why_silent(config):
        published = read_published(config).merged()
    there = {bucket: found for bucket, found in published.items() if bucket.interval in config.counter.intervals}
    gone = no_longer_kept(buckets, there, config.counter.publish_keep_days, calendar)
    buckets = [bucket for bucket in buckets if Bucket(bucket.interval, bucket.start) not in gone]
    counted = there if arguments.all else within_time(there, buckets)
    why = {bucket: found.why for bucket, found in counted.items() if found.why}
    different = differences(buckets, {bucket: found.total for bucket, found in counted.items()}, why)
    sys.stdout.writelines(difference.line(arguments.format, calendar) + "\n" for difference in different)
    compared = len(counted.keys() | {Bucket(bucket.interval, bucket.start) for bucket in buckets})
    _log.info(Verdict(len(different), compared, len(there) - len(counted), len(gone)).words(result.counts))
    for bucket, reasons in sorted(why.items()):
        if bucket not in {difference.bucket for difference in different}:
            _log.info(f"{calendar.text(bucket)}  {bucket.interval}  does not differ{words(reasons)}")
    return 1 if different else 0
