"""Count the unique users per minute of a file exactly, with plain sets and without Kafka."""

import sys
import time
from collections.abc import Sequence

from unique_users.command_line import argument_parser
from unique_users.config import load_config
from unique_users.frame_files import FrameFile
from unique_users.lifecycle import run_script, say
from unique_users.recounting import recount

EXAMPLES = """\
  python recount.py stream.gz                       the counts
  python recount.py stream.gz --format json         as JSON lines, like counter.py's"""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when the whole file was counted."""
    parser = argument_parser(__doc__, EXAMPLES)
    parser.add_argument("file", metavar="FILE", help="gzip, zstd or plain; `-` is stdin")
    parser.add_argument("--format", choices=["text", "json"], default="text", help="default: text")
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config, arguments.set)

    with FrameFile(arguments.file) as file:
        result = recount((line.value for line in file), config, int(time.time() * 1000))
    for bucket in result.buckets():
        sys.stdout.write(bucket.line(arguments.format) + "\n")
    say(str(result.counts))
    return 0


if __name__ == "__main__":
    run_script(main)
