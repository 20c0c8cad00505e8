"""What this process has done so far, in plain numbers: how long its steps take, what came in and what went out.

The loops write, other threads read: every value is replaced or grows, and nothing is ever removed.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from time import perf_counter

# From half a millisecond, what a poll of a quiet topic takes, to half a minute, when something is wrong.
STEP_BOUNDS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# From the second to the day that is allowed by default, and beyond.
LATENESS_BOUNDS_SECONDS = (0, 1, 5, 15, 60, 300, 900, 3_600, 21_600, 86_400, 604_800)


COUNTED_RECORDS_MAX = 64  # of a batch with more, the bytes are estimated
BYTES_EVERY = 8  # from one record of so many: to count all of them would cost more than all other metrics


class Step(StrEnum):
    """What a loop spends its time on."""

    POLL = "poll"
    PARSE = "parse"
    SEND = "send"
    FLUSH = "flush"
    COMMIT = "commit"
    UPDATE = "update"
    SAVE = "save"
    PUBLISH = "publish"


class Distribution:
    """How many values were at most each bound; values above the last one are counted, too."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Add a value that occurred so many times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times


class Activity:
    """Of one process."""

    def __init__(self) -> None:
        self.steps = {step: Distribution(STEP_BOUNDS_SECONDS) for step in Step}
        self.records_in = 0
        self.bytes_in = 0  # estimated, as bytes_out
        self.records_out = Counter[str]()  # by topic, handed over
        self.bytes_out = Counter[str]()
        self.rebalances = 0
        self.new_users = Counter[str]()  # counted for the first time in a bucket, by interval
        self.late_users = 0  # rejected by a counter
        self.records_unreadable = 0
        self.saved_at = self.published_at = 0.0  # wall time when all was, last; 0 if never

    @contextmanager
    def timed(self, step: Step) -> Iterator[None]:
        """Add the time that this takes to a step."""
        began = perf_counter()
        try:
            yield
        finally:
            self.steps[step].add(perf_counter() - began)

    def received(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> None:
        """Note records that were polled."""
        self.records_in += len(values)
        self.bytes_in += _bytes_of(keys) + _bytes_of(values)

    def sent(self, topic: str, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> None:
        """Note records that were handed over to a producer."""
        self.records_out[topic] += len(values)
        self.bytes_out[topic] += _bytes_of(keys) + _bytes_of(values)


def _bytes_of(column: Sequence[bytes | None]) -> int:
    """Their total, estimated if they are many."""
    if len(column) <= COUNTED_RECORDS_MAX:
        return _total(column)
    some = column[::BYTES_EVERY]
    return round(_total(some) * len(column) / len(some))


def _total(column: Sequence[bytes | None]) -> int:
    return sum(map(len, filter(None, column)))


ACTIVITY = Activity()  # one per process, like its signals
timed = ACTIVITY.timed
