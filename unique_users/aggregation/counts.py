"""Estimated counts, for code that keeps, prints or adds them. Only making them needs the extra `estimates`. Pure."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from unique_users.aggregation.sketches import Sketch

CHECKSUM_BYTES = 8


class DamagedSketchError(ValueError):
    """These bytes are not a sketch, or not one of this program."""


class Estimate(NamedTuple):
    """A number of unique users, with bounds that hold in about 95 of 100 cases."""

    unique_users: int
    lower: int
    upper: int


Count = int | Estimate  # of a bucket: exact, or not


def users_in(count: Count) -> int:
    """The number of unique users without its bounds."""
    return count.unique_users if isinstance(count, Estimate) else count


def add_up(counts: Iterable[Count]) -> Count:
    """The count of disjoint sets of users. Bounds are added too, so they are wider than those of one sketch of all."""
    found = list(counts)
    total = sum(map(users_in, found))
    if not any(isinstance(count, Estimate) for count in found):
        return total
    lower = sum(count.lower if isinstance(count, Estimate) else count for count in found)
    return Estimate(total, lower, sum(count.upper if isinstance(count, Estimate) else count for count in found))


def sketch_checksum(data: bytes) -> bytes:
    """The checksum stored beside the bytes of a sketch."""
    return blake2b(data, digest_size=CHECKSUM_BYTES).digest()


def sketch_class() -> type["Sketch"]:
    """Import the sketch class. Raises ImportError without the package datasketches, which only estimates need."""
    from unique_users.aggregation.sketches import Sketch  # noqa: PLC0415 - only when it is needed

    return Sketch
