"""Frames that come for as long as a test takes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event

from harness import Run
from system import BEFORE_NEW_YEAR, System

from unique_users.demo.sample import frames as sample_frames

FRAMES_MAX = 100_000


class Live:
    """A producer at work on `rate` frames a second; `sent` are those that it was given."""

    def __init__(self, run: Run, system: System, rate: int, settings: Sequence[str] = ()) -> None:
        self._run = run
        self._over = Event()
        self.sent: list[bytes] = []
        feed = self._frames(rate, run.random.randrange(1 << 30))
        self.producer = system.start("producer", "-", "--rate", str(rate), settings=settings, feed=feed)

    def end(self) -> None:
        """Let no more come. Whoever reads `sent` now finds all."""
        self._run.expect(len(self.sent) < FRAMES_MAX, "the frames were over before the test was")
        self._over.set()

    def end_well(self) -> None:
        """Let no more come, and wait until all are acknowledged."""
        self.end()
        code = self.producer.wait()
        self._run.expect(code == 0, f"producer ended with {code}: {self.producer.complaints}")

    def _frames(self, rate: int, seed: int) -> Iterator[bytes]:
        for frame in sample_frames(FRAMES_MAX, FRAMES_MAX, FRAMES_MAX // rate, seed, BEFORE_NEW_YEAR):
            if self._over.is_set():
                return
            self.sent.append(frame)
            yield frame


@contextmanager
def live(run: Run, system: System, rate: int) -> Iterator[list[bytes]]:
    """Frames that come for as long as the block takes; at its end, all of them are acknowledged."""
    frames = Live(run, system, rate)
    yield frames.sent
    frames.end_well()
