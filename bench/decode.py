"""Time (de)serialization alone: python bench/decode.py [FILE.gz].

What each way takes for a frame, and for a record of `bucketed`, in µs of CPU: the best of 7 passes over 20,000. The
results of a pass are kept, as a batch's are. pysimdjson is timed when it is installed.
"""

import gzip
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench/peers")]

import msgspec  # noqa: E402
import orjson  # noqa: E402
from peer import Frame  # noqa: E402

from unique_users.demo.sample import frames  # noqa: E402
from unique_users.messages.bucketed import users_by_bucket  # noqa: E402
from unique_users.messages.frame_parser import FrameParser  # noqa: E402

COUNT = 20_000
PASSES = 7


def best(work: Callable[[], object]) -> float:
    """µs for each of COUNT."""
    times = []
    for _ in range(PASSES):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times) / COUNT * 1e6


def main() -> None:
    """Print the table."""
    if len(sys.argv) > 1:
        with gzip.open(Path(sys.argv[1])) as file:
            raw = [line.rstrip(b"\n") for line in islice(file, COUNT)]
    else:
        raw = list(frames(COUNT))
    ways: dict[str, Callable[[], Any]] = {
        "json.loads": lambda: [json.loads(frame)["uid"] for frame in raw],
        "orjson.loads": lambda: [orjson.loads(frame)["uid"] for frame in raw],
        "msgspec.json.decode": lambda: [msgspec.json.decode(frame)["uid"] for frame in raw],
        "msgspec typed, uid and ts": lambda: list(map(msgspec.json.Decoder(Frame).decode, raw)),
        "FrameParser.parse_all (ours)": lambda: FrameParser().parse_all(raw),
        **simdjson(raw),
    }
    for name, work in ways.items():
        print(f"decode a frame, {name:30} {best(work):6.2f}")
    records = list(map(msgspec.json.Decoder(Frame).decode, raw))
    lines = msgspec.json.Encoder().encode_lines(records).split(b"\n")[:-1]
    keys = [b"1468244340"] * len(lines)
    ways = {
        "json.dumps": lambda: [json.dumps({"uid": each.uid, "ts": each.ts}).encode() for each in records],
        "orjson.dumps": lambda: [orjson.dumps({"uid": each.uid, "ts": each.ts}) for each in records],
        "msgspec, each": lambda: list(map(msgspec.json.Encoder().encode, records)),
        "msgspec, all at once (ours)": lambda: msgspec.json.Encoder().encode_lines(records).split(b"\n"),
    }
    for name, work in ways.items():
        print(f"encode a record, {name:29} {best(work):6.2f}")
    ways = {
        "json.loads": lambda: [json.loads(line)["uid"] for line in lines],
        "orjson.loads": lambda: [orjson.loads(line)["uid"] for line in lines],
        "msgspec typed, each": lambda: list(map(msgspec.json.Decoder(Frame).decode, lines)),
        "users_by_bucket (ours)": lambda: users_by_bucket(keys, lines),
    }
    for name, work in ways.items():
        print(f"decode a record, {name:29} {best(work):6.2f}")


def simdjson(raw: Sequence[bytes]) -> dict[str, Callable[[], Any]]:
    """Pysimdjson's way, if it is there. It takes the first of two equal keys, so it would not do."""
    try:
        parser = import_module("simdjson").Parser()
    except ModuleNotFoundError:
        return {}

    def work() -> None:
        for frame in raw:
            root = parser.parse(frame)
            _ = root["uid"], root["ts"]
            del root

    return {"pysimdjson": work}


if __name__ == "__main__":
    main()
