"""A stream that never ends: first the last day in a rush, then frames of now, with a daily rhythm and late ones."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from typing import IO

from unique_users.demo.sample import frames as sample_frames
from unique_users.demo.stop import EarlyEnd

_log = logging.getLogger(__name__)

HISTORY_SECONDS = 26 * 3_600  # so that the page has a day to show, and the same minute a day earlier
USERS = 20_000
LATE_SHARE = 0.03
LATE_SECONDS_MEAN, LATE_SECONDS_MAX = 150.0, 1_800.0
QUIET_SHARE = 0.25  # of the rate, at the quietest time of the day
QUIET_AT = 4.0  # o'clock, UTC
TICK_SECONDS = 0.1
BODIES = 200  # frames of 2 KB as in the sample, used over and over
FRAME = b'{"uid":"%s","ts":%d}'


def share_of_rate(ts: float) -> float:
    """How busy the stream is at this time: between QUIET_SHARE and 1, a long evening and a short night."""
    hour = ts % 86_400 / 3_600
    wave: float = (1 - math.cos((hour - QUIET_AT) / 24 * 2 * math.pi)) / 2
    return QUIET_SHARE + (1 - QUIET_SHARE) * math.sqrt(wave)


class LiveFrames:
    """Frames of a stream with `rate` frames per second at the busiest time of the day."""

    def __init__(self, rate: float, seed: int = 1, wall_clock: Callable[[], float] = time.time) -> None:
        self._rate = rate
        self._random = Random(seed)  # noqa: S311 - reproducible, not secret
        self._wall_clock = wall_clock

    def history(self) -> Iterator[bytes]:
        """The frames of the last day, in the order in which they would have come."""
        now = int(self._wall_clock())
        for second in range(now - HISTORY_SECONDS, now):
            yield from self._frames_of(second, 1.0)

    def now(self, wait: Callable[[float], bool]) -> Iterator[list[bytes]]:
        """The frames of each tenth of a second, until `wait` returns True."""
        # Of two members of one name the last one counts: user and time are put behind everything else.
        bodies = [frame.rstrip()[:-1] for frame in sample_frames(BODIES)]
        while not wait(TICK_SECONDS):
            at = self._wall_clock()
            yield [
                b'%s,"uid":"%s","ts":%d}' % (bodies[self._random.randrange(BODIES)], *event)
                for event in self._events(at, TICK_SECONDS)
            ]

    def _frames_of(self, second: float, seconds: float) -> Iterator[bytes]:
        return (FRAME % event for event in self._events(second, seconds))

    def _events(self, at: float, seconds: float) -> Iterator[tuple[bytes, int]]:
        """The users and times of the frames that come within some seconds."""
        expected = self._rate * share_of_rate(at) * seconds
        count = int(expected) + (self._random.random() < expected % 1)
        for _ in range(count):
            # A few users come often, most seldom.
            user = int(USERS * self._random.random() ** 2)
            late = 0.0
            if self._random.random() < LATE_SHARE:
                late = min(self._random.expovariate(1 / LATE_SECONDS_MEAN), LATE_SECONDS_MAX)
            yield b"user-%05d" % user, int(at - late)


def feed(pipe: IO[bytes], frames: LiveFrames, stop: EarlyEnd) -> None:
    """Write the last day and then what comes to a producer's stdin, until a stop is requested or the producer ends."""

    def wait(seconds: float) -> bool:
        time.sleep(seconds)
        return stop.requested

    with suppress(OSError, ValueError), pipe:
        for frame in frames.history():
            pipe.write(frame + b"\n")
        pipe.flush()
        _log.info("the last day is sent; from now on frames come as they happen, 3 % of them late; Ctrl-C stops")
        for lines in frames.now(wait):
            pipe.write(b"".join(frame + b"\n" for frame in lines))
            pipe.flush()
