"""The life of a process: signals ask it to stop, errors end it with one line and an exit code."""

import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from unique_users.errors import UniqueUsersError

SLICE_SECONDS = 0.05  # a sleep goes on after a signal's handler; this is how soon the request is seen
TOGETHER_SECONDS = 1.0  # signals that come within so long are one request
FORCED = b"stopped by force: what was not saved is read again at the next start\n"
GC_OBJECTS = 10_000  # new objects between two looks of the garbage collector; with 700 it looks in every poll

# SIGBREAK is what Windows can send to one process among others; it has no SIGTERM of its own.
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)


class Pulse:
    """How a watchdog, in its own thread, knows that the loop in the main thread moves."""

    def __init__(self) -> None:
        self.beats = 0
        self.busy = 0


PULSE = Pulse()
_MAIN_THREAD = threading.main_thread().ident


def alive() -> None:
    """Say that the loop moves: in every step, and between requests that may each be waited for."""
    if threading.get_ident() == _MAIN_THREAD:
        PULSE.beats += 1


@contextmanager
def busy() -> Iterator[None]:
    """Have the loop stand still as long as it takes: for state that is large, and for output that is not read."""
    if threading.get_ident() != _MAIN_THREAD:
        yield
        return
    PULSE.busy += 1
    try:
        yield
    finally:
        PULSE.beats += 1
        PULSE.busy -= 1


class Stop:
    """A request to stop, set once by a signal or a caller and asked for by the loops.

    A plain flag: a lock, as in threading.Event, could be held by the very code that a signal handler interrupts.
    """

    def __init__(self) -> None:
        self._requested = False

    @property
    def requested(self) -> bool:
        """Whether the process was asked to stop."""
        return self._requested

    def request(self) -> None:
        """Ask the loops to end at their next step."""
        self._requested = True

    def wait(self, seconds: float) -> bool:
        """Sleep for `seconds` or until a stop is requested; return whether it was."""
        deadline = time.monotonic() + seconds
        while not self._requested and (remaining := deadline - time.monotonic()) > 0:
            alive()
            time.sleep(min(remaining, SLICE_SECONDS))
        return self._requested


def heeded_signals() -> list[int]:
    """The stop signals that this process was not told to ignore when it was started, as by nohup."""
    return [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def stop_on_signals(monotonic: Callable[[], float] = time.monotonic) -> Iterator[Stop]:
    """Give a Stop that SIGINT and SIGTERM set; a later one ends the process at once, exit code 1.

    Signals within a second are one request: a closed terminal and `timeout` send two. Those that were ignored when the
    process was started stay so. The former handlers are back afterwards.
    """
    stop = Stop()
    first: float | None = None

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal first
        if first is None:
            first = monotonic()
        elif monotonic() - first > TOGETHER_SECONDS:
            os.write(2, FORCED)
            os._exit(1)
        stop.request()

    former = {number: signal.signal(number, handle) for number in heeded_signals()}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def say(text: str) -> None:
    """Write one line to stderr, for the person at the terminal; results go to stdout."""
    with busy():
        print(text, file=sys.stderr, flush=True)


def _find_malloc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None  # not the GNU C library
    return trim


_malloc_trim = _find_malloc_trim()


def give_memory_back() -> None:
    """Give freed memory back to the system. Takes milliseconds.

    Only the GNU C library needs to be told: once a large block was freed, it takes those of that size from a heap that
    shrinks at its end alone. The tables of sets that are gone would stay in the middle of it.
    """
    if _malloc_trim is not None:
        _malloc_trim(0)


_running_script = False


def runs_script() -> bool:
    """Whether this process is one of the scripts, that ends with its main."""
    return _running_script


def run_script(main: Callable[[Sequence[str]], int]) -> None:
    """Run `main` on the command line's arguments and exit with its code, or with a user error's line and code."""
    global _running_script  # noqa: PLW0603 - of the process, as are its signals
    _running_script = True
    # Records come by thousands, live for one poll and form no cycles: looking through them more often finds nothing.
    gc.set_threshold(GC_OBJECTS)
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except UniqueUsersError as error:
        say(f"error: {error}")
        code = error.exit_code
    except BrokenPipeError:
        # Nobody reads the results any more; give the interpreter's own last flush somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        say("error: stdout was closed by its reader")
        code = 1
    except KeyboardInterrupt:
        code = 1
    finally:
        _running_script = False
    sys.exit(code)
