"""Write generated frames to stdout, and to a file what is to be counted of every interval, in UTC, by plain sets.

    python bench/generate.py FRAMES COUNTS.json [USERS] [--uneven] | python producer.py -

100,000 users and 17 minutes of event time, however many frames. The file has the counts of each interval by the start
of each bucket, and below `estimates` those that sketches estimate. With `--uneven` some frames are hours late and some
lines are invalid, see late_and_bad.py.
"""

import json
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE), str(HERE / "peers")]

import msgspec  # noqa: E402
from late_and_bad import BAD, uneven_frames  # noqa: E402
from peer import Frame  # noqa: E402

from unique_users.aggregation.counts import sketch_class  # noqa: E402
from unique_users.demo.sample import frames  # noqa: E402
from unique_users.event_time.buckets import INTERVALS, Calendar  # noqa: E402

USERS = 100_000
SECONDS = 17 * 60
LINES = 1_000


def main() -> None:
    """Frames first, counts at the end."""
    words = [word for word in sys.argv[1:] if word != "--uneven"]
    count, counts = int(words[0]), Path(words[1])
    among = int(words[2]) if len(words) > 2 else USERS  # noqa: PLR2004
    made = uneven_frames if "--uneven" in sys.argv else frames
    users: dict[int, set[str]] = {}
    for lines in _chunks(made(count, among, SECONDS)):
        sys.stdout.buffer.write(b"\n".join(lines) + b"\n")
        for frame in msgspec.json.Decoder(Frame).decode_lines(b"\n".join(line for line in lines if line not in BAD)):
            users.setdefault(frame.ts // 60 * 60, set()).add(frame.uid)
    sys.stdout.buffer.flush()
    exact, estimates = ({name: _counts(name, users, count) for name in INTERVALS} for count in (len, _estimate))
    counts.write_text(json.dumps({**exact, "estimates": estimates}))


def _estimate(uids: set[str]) -> int:
    sketch = sketch_class()()
    sketch.add(uids)
    return sketch.estimate().unique_users


def _counts(interval: str, users: dict[int, set[str]], count: Callable[[set[str]], int]) -> dict[int, int]:
    """The count of each bucket, by its start."""
    calendar = Calendar()
    wide: dict[int, set[str]] = {}
    for minute, uids in sorted(users.items()):
        wide.setdefault(calendar.start(interval, minute), set()).update(uids)
    return {start: count(uids) for start, uids in wide.items()}


def _chunks(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    while chunk := list(islice(lines, LINES)):
        yield chunk


if __name__ == "__main__":
    main()
