"""How long the topic counts stood still, by the times of what was published."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from topics_on_broker import Record


class Disturbance(NamedTuple):
    """What was done, and from when to when the system needed to go on everywhere, in epoch seconds."""

    what: str
    begin: float
    end: float


def longest_pauses(published: Iterable[Record], disturbances: Sequence[Disturbance]) -> dict[str, float]:
    """The longest time, in seconds, in which nothing was published of a partition of bucketed, for each disturbance.

    A pause belongs to each that it overlaps, so that none is taken for shorter than it was, or to "other times".
    """
    times: defaultdict[bytes, list[float]] = defaultdict(list)
    for record in published:
        times[(record.key or b"").rpartition(b":")[2]].append(record.timestamp_ms / 1000)
    longest: defaultdict[str, float] = defaultdict(float)
    for of_partition in times.values():
        for begin, end in pairwise(sorted(of_partition)):
            causes = {d.what for d in disturbances if begin < d.end and d.begin < end} or {"other times"}
            for cause in causes:
                longest[cause] = max(longest[cause], end - begin)
    return dict(longest)
