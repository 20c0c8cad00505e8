"""Generated frames of which some are hours late and some are invalid, to compare engines by."""

from collections.abc import Iterator

from unique_users.demo.sample import START, frames

BAD_EVERY = 1_000  # one in so many lines is invalid
LATE_EVERY = 200  # one in so many frames is hours late
LATE_SECONDS = 6 * 3_600
BAD = (
    b"no JSON at all",
    b'{"uid":"3f","ts":17041162',
    b'{"uid":"3f"}',
    b'{"ts":1704116240}',
    b'{"uid":null,"ts":1704116240}',
    b'{"uid":["3f"],"ts":1704116240}',
    b'{"uid":"3f","ts":"yesterday"}',
    b'{"uid":"3f","ts":true}',
    b"[]",
    b"17",
)


def uneven_frames(count: int, users: int, seconds: int) -> Iterator[bytes]:
    """`count` lines: those of the sample, with late ones from six hours before among them, and with bad ones."""
    late = frames(count // LATE_EVERY + 1, users, seconds, seed=2, start=START - LATE_SECONDS)
    for number, frame in enumerate(frames(count, users, seconds)):
        if number % BAD_EVERY == BAD_EVERY // 2:
            yield BAD[number // BAD_EVERY % len(BAD)]
        elif number % LATE_EVERY == LATE_EVERY - 1:
            yield next(late)
        else:
            yield frame


def bad_lines(count: int) -> int:
    """How many of `count` lines are invalid."""
    return sum(1 for _ in range(BAD_EVERY // 2, count, BAD_EVERY))
