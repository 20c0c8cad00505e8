"""Write generated frames to stdout, and what a recount would say of them to a file.

    python bench/generate.py FRAMES COUNTS.json | python producer.py -

The same 100,000 users and 17 minutes of event time, however many frames.
"""

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import msgspec

from unique_users.sample import frames

USERS = 100_000
SECONDS = 17 * 60
LINES = 1_000


class _Frame(msgspec.Struct):
    uid: str
    ts: int


def main() -> None:
    """Frames first, counts at the end."""
    count, counts = int(sys.argv[1]), Path(sys.argv[2])
    users: dict[int, set[str]] = {}
    for lines in _chunks(frames(count, users=USERS, seconds=SECONDS)):
        sys.stdout.buffer.write(b"\n".join(lines) + b"\n")
        for frame in msgspec.json.Decoder(_Frame).decode_lines(b"\n".join(lines)):
            users.setdefault(frame.ts // 60 * 60, set()).add(frame.uid)
    sys.stdout.buffer.flush()
    counts.write_text(json.dumps({start: len(uids) for start, uids in sorted(users.items())}))


def _chunks(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    while chunk := list(islice(lines, LINES)):
        yield chunk


if __name__ == "__main__":
    main()
