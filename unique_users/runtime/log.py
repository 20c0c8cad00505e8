"""What a process tells the person who runs it, on stderr: results go to stdout.

One-shot commands print plain lines. The three scripts log with time, level and logger, as text or JSON.
"""

import json
import logging
import sys
import time
from typing import Literal

from unique_users.runtime.heartbeat import busy

LogFormat = Literal["plain", "text", "json"]
PACKAGE = "unique_users"


class _Plain(logging.Formatter):
    """The message; an error is labelled as one."""

    def format(self, record: logging.LogRecord) -> str:
        before = "error: " if record.levelno >= logging.ERROR else ""
        return before + super().format(record)


class _Text(_Plain):
    """Time, level, logger, message; an error, which ends the process, stands alone for the person who started it."""

    def format(self, record: logging.LogRecord) -> str:
        if record.levelno >= logging.ERROR:
            return super().format(record)
        return f"{_time(record)} {record.levelname:<7} {_logger(record)}: {super().format(record)}"


class _Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {"time": _time(record), "level": record.levelname.lower(), "logger": _logger(record)}
        return json.dumps({**fields, "message": super().format(record)}, ensure_ascii=False)


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))


def _logger(record: logging.LogRecord) -> str:
    return record.name.removeprefix(f"{PACKAGE}.")


class _Stderr(logging.Handler):
    """Writes to whatever `sys.stderr` is at the time. No failure of stderr ends the process."""

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is None:
            return
        try:
            with busy():
                print(self.format(record), file=sys.stderr, flush=True)
        except (OSError, ValueError):
            return  # a full disk, or closed: the counts matter more than the log


_HANDLER = _Stderr()
_FORMATTERS = {"plain": _Plain(), "text": _Text(), "json": _Json()}


def log_to_stderr(log_format: LogFormat = "plain") -> None:
    """Send the log of this program and of the local Kafka to stderr."""
    _HANDLER.setFormatter(_FORMATTERS[log_format])
    logger = logging.getLogger(PACKAGE)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if _HANDLER not in logger.handlers:
        logger.addHandler(_HANDLER)
