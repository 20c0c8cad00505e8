"""The life of a process: errors end it with one line and an exit code."""

import gc
import logging
import os
import sys
from collections.abc import Callable, Sequence

from unique_users.runtime.log import log_to_stderr

_log = logging.getLogger(__name__)

GC_OBJECTS = 10_000  # new objects between two looks of the garbage collector; with 700 it looks in every poll


_running_script = False


def runs_script() -> bool:
    """Whether this process is one of the scripts, that ends with its main."""
    return _running_script


def run_script(main: Callable[[Sequence[str]], int]) -> None:
    """Run `main` on the command line's arguments and exit with its code, or with a user error's line and code."""
    log_to_stderr()
    global _running_script  # noqa: PLW0603 - of the process, as are its signals
    _running_script = True
    # Records come by thousands, live for one poll and form no cycles: looking through them more often finds nothing.
    gc.set_threshold(GC_OBJECTS)
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads the results any more; give the interpreter's own last flush somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _log.info("error: stdout was closed by its reader")
        code = 1
    except KeyboardInterrupt:
        code = 1
    except Exception as error:
        # A user error says what to do, whichever room it comes from.
        if (exit_code := getattr(error, "exit_code", None)) is None:
            raise
        _log.info(f"error: {error}")
        code = exit_code
    finally:
        _running_script = False
    sys.exit(code)
