"""The life of a process: errors end it with one line and an exit code."""

import gc
import logging
import os
import sys
from collections.abc import Callable, Sequence

from unique_users.runtime.log import log_to_stderr

_log = logging.getLogger(__name__)

GC_OBJECTS = 10_000  # new objects between two runs of the garbage collector; with 700 it runs in every poll


_running_script = False


def runs_script() -> bool:
    """Whether this process is one of the scripts, which ends with its main."""
    return _running_script


def run_script(main: Callable[[Sequence[str]], int]) -> None:
    """Run `main` on the command line's arguments; exit with its code, or with a user error's message and code."""
    global _running_script  # noqa: PLW0603 - one per process, like its signals
    log_to_stderr()
    _running_script = True
    # Records arrive by the thousand, live for one poll and form no cycles: more frequent collections find nothing.
    gc.set_threshold(GC_OBJECTS)
    try:
        code = _run(main)
    except KeyboardInterrupt:
        code = 1
    finally:
        _running_script = False
        gc.freeze()  # the interpreter's last collections would look at every user id once more
    sys.exit(code)


def _run(main: Callable[[Sequence[str]], int]) -> int:
    if sys.stdout is None:
        _log.error("stdout is closed, and results go there: send them to a file, or to /dev/null")
        return 1
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        _stop_writing()
        _log.error("stdout was closed by its reader")
    except OSError as error:
        # Opening and reading files raises errors of its own: what is left is stdout.
        if error.filename is not None:
            raise
        _stop_writing()
        _log.error(f"cannot write to stdout: {error.strerror}")
    except Exception as error:
        # A user error says what to do, whichever room it comes from.
        exit_code = getattr(error, "exit_code", None)
        if exit_code is None:
            raise
        _log.error(error)
        return int(exit_code)
    else:
        return code
    return 1


def _stop_writing() -> None:
    """Redirect stdout, so that the interpreter's own last flush has somewhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
