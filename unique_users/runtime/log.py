"""What a process tells the person at the terminal, on stderr: results go to stdout."""

import logging
import sys

from unique_users.runtime.pulse import busy


class _Stderr(logging.Handler):
    """Writes to what `sys.stderr` is at that moment. Nothing that stderr does ends the process."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            with busy():
                print(self.format(record), file=sys.stderr, flush=True)
        except (OSError, ValueError):
            return  # a full disk, or closed: the counts matter more than what is said of them


_HANDLER = _Stderr()


def log_to_stderr() -> None:
    """Have what this program and the local Kafka log appear on stderr."""
    logger = logging.getLogger("unique_users")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if _HANDLER not in logger.handlers:
        logger.addHandler(_HANDLER)
