"""Write a sample stream: 30,000 frames of about 2 KB, with 20,000 users in six minutes; the same every time."""

import logging
from collections.abc import Sequence
from pathlib import Path

from unique_users.commands.arguments import argument_parser
from unique_users.config.load import load_config
from unique_users.demo.sample import write_sample
from unique_users.errors import InputError

_log = logging.getLogger(__name__)

EXAMPLES = """\
  unique-users sample                                       the file that `producer.py` replays if you name none
  unique-users sample other.gz                              another file"""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when the file is there. A file that exists is left as it is."""
    parser = argument_parser(__doc__, EXAMPLES)
    parser.add_argument("file", nargs="?", metavar="FILE", help="where to write it, compressed with gzip")
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config, arguments.set)
    path = Path(arguments.file or config.producer.file)
    if path.exists():
        _log.info(f"{path} exists: left as it is")
        return 0
    try:
        write_sample(path)
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error.strerror or error}: name another file") from None
    _log.info(f"{path}: 30,000 frames")
    return 0
