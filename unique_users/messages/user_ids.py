"""User ids: strings and integers in frames become strings. Pure.

A string counts as it is: no case folding, no trimming, no Unicode normalization. An integer counts as its digits.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta

from unique_users.messages.event_times import kind

UID_BYTES_MAX = 256
_SURROGATE = re.compile("[\ud800-\udfff]")

_ALWAYS_SHORT = UID_BYTES_MAX // 4  # this many characters are at most UID_BYTES_MAX bytes, whatever they are
# The msgspec types of values that need no closer look, and are never 0. Decoding only short strings is the cheapest.
SHORT_STRING = Annotated[str, Meta(min_length=1, max_length=_ALWAYS_SHORT)]
STRING_OR_INTEGER = str | Annotated[int, Meta(ge=1)]


def column(values: Sequence[Any]) -> list[str] | None:
    """All of `values` as user ids; None if they have to be converted one by one."""
    types = set(map(type, values))
    if types == {str}:
        uids = values if isinstance(values, list) else list(values)
    elif types <= {str, int}:
        uids = list(map(str, values))
    else:
        return None
    longest = max(map(len, uids))
    short = longest <= _ALWAYS_SHORT or (longest <= UID_BYTES_MAX and "".join(uids).isascii())
    return uids if short and all(uids) else None


def is_broken(value: object) -> bool:
    """Whether a string was not UTF-8 or holds half of a surrogate pair, so that it cannot be encoded."""
    return isinstance(value, str) and not value.isascii() and _SURROGATE.search(value) is not None


def user_id(value: object) -> str:
    """Convert one value. Raises ValueError; its message continues after the name of the field."""
    if type(value) is int:
        value = str(value) if value.bit_length() <= UID_BYTES_MAX * 4 else "0" * (UID_BYTES_MAX + 1)
    if not isinstance(value, str):
        raise ValueError(f"is {kind(value)}, expected a string or an integer")  # noqa: TRY004 - a wrong value
    if not value:
        raise ValueError("is empty")
    size = len(value.encode(errors="replace"))
    if size > UID_BYTES_MAX:
        raise ValueError(f"has {size} bytes, at most {UID_BYTES_MAX} are allowed")
    return value
