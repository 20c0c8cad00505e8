"""The memory of a process."""

import ctypes
from collections.abc import Callable


def _find_malloc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None  # not the GNU C library
    return trim


_malloc_trim = _find_malloc_trim()


def give_memory_back() -> None:
    """Give freed memory back to the system. Takes milliseconds.

    Only the GNU C library needs this: once a large block was freed, it takes blocks of that size from a heap that only
    shrinks at its end. Tables of dropped sets would stay in the middle of it.
    """
    if _malloc_trim is not None:
        _malloc_trim(0)
