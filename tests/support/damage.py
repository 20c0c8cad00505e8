"""A state that is damaged in hundreds of places, one at a time, in one process."""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import orjson
from harness import Run

from unique_users.aggregation.bucket_users import Origin
from unique_users.aggregation.counts import users_in
from unique_users.clients.protocols import Batch
from unique_users.counter.partition import CountedPartition
from unique_users.counter.publish_keep import PublishKeep
from unique_users.errors import StateError
from unique_users.event_time.buckets import Calendar
from unique_users.event_time.rollup import Rollup
from unique_users.state.store import Store

ORIGIN = Origin("bucketed", "an-id", 0, 1)
BUCKETS = 8


def open_ledger(directory: Path, origin: Origin) -> CountedPartition:
    """The ledger of a state, which forgets nothing."""
    return CountedPartition(
        Store(directory, origin), origin, Rollup(Calendar()), 0, 1_000_000, PublishKeep({}, 0, Calendar())
    )


def flip_in_process(run: Run, times: int) -> None:
    """Damage a state in one place at a time, go on with it, and compare with what it would have become."""
    directory = run.directory / "flips"
    first, second = records(run.random, 0), records(run.random, 1)
    ledger = open_ledger(directory / "whole", ORIGIN)
    for batch in first:
        ledger.add(batch)
        ledger.save()
    saved = ledger.position
    ledger.close()
    whole = (directory / "whole" / "bucketed-0.sqlite").read_bytes()
    expected: dict[int, set[bytes | None]] = {}
    for batch in [*first, *second]:
        for key, value in zip(batch.keys, batch.values, strict=True):
            expected.setdefault(int(key or b""), set()).add(value)
    path = directory / "flipped" / "bucketed-0.sqlite"
    path.parent.mkdir()
    for number in range(times):
        for left_over in path.parent.iterdir():
            left_over.unlink()
        path.write_bytes(whole)
        run.inject()
        how = flip(path, run.random, number)
        damaged = path.read_bytes()
        try:
            counts = go_on(path.parent, saved, second)
        except StateError as error:
            run.expect(len(str(error).splitlines()) == 1, f"{how}: said in several lines: {error}")
            if "damaged" in str(error) and "bucket" not in str(error):
                run.expect(path.read_bytes() == damaged, f"{how}: the damaged file was changed")
            continue
        except Exception as error:  # noqa: BLE001 - what is found here is the point
            run.problems.append(f"{how}: {type(error).__name__}: {error}")
            continue
        right = counts == {start: len(values) for start, values in expected.items()}
        run.expect(right, f"{how}: wrong counts, and nobody noticed")


def go_on(directory: Path, saved: int, second: Sequence[Batch]) -> dict[int, int]:
    """Open the state, count the rest of the stream, which brings late users to every bucket."""
    ledger = open_ledger(directory, ORIGIN)
    try:
        if ledger.saved_offset is None:
            raise StateError("empty: the counter would begin at the topic's start, which is right")
        if ledger.saved_offset != saved:
            raise RuntimeError(f"position {ledger.saved_offset} instead of {saved}")
        for batch in second:
            ledger.add(batch)
            ledger.save()
        return {bucket.start: users_in(ledger.count(bucket)) for bucket in ledger.buckets()}
    finally:
        ledger.close()


def records(random: Random, part: int) -> list[Batch]:
    """Batches of bucketed, all in the same few buckets."""
    batches = []
    for number in range(6):
        count = 400
        offset = (part * 6 + number) * count
        starts = [1_704_116_220 + 60 * random.randrange(BUCKETS) for _ in range(count)]
        uids = [f"{random.randrange(1 << 40):019x}" for _ in range(count)]
        values = [orjson.dumps({"uid": uid, "ts": start}) for uid, start in zip(uids, starts, strict=True)]
        keys = [b"%d" % start for start in starts]
        batches.append(Batch(0, keys, values, [0] * count, list(range(offset, offset + count))))
    return batches


def flip(path: Path, random: Random, number: int) -> str:
    """Damage a file in one of several ways; return which."""
    data = bytearray(path.read_bytes())
    at = random.randrange(len(data))
    ways: list[Callable[[], str]] = [
        lambda: _bit(data, at, random),
        lambda: _bit(data, random.randrange(min(len(data), 4096)), random),
        lambda: _stretch(data, at, random.randbytes(random.randrange(1, 64))),
        lambda: _stretch(data, at // 4096 * 4096, bytes(4096)),
        lambda: _swap_pages(data, random),
        lambda: _truncate(data, at),
        lambda: _bit(data, at, random),
    ]
    how = ways[number % len(ways)]()
    path.write_bytes(data)
    return how


def _bit(data: bytearray, at: int, random: Random) -> str:
    bit = random.randrange(8)
    data[at] ^= 1 << bit
    return f"bit {bit} of byte {at} flipped"


def _stretch(data: bytearray, at: int, with_: bytes) -> str:
    data[at : at + len(with_)] = with_[: len(data) - at]
    return f"{len(with_)} bytes overwritten at {at}"


def _swap_pages(data: bytearray, random: Random) -> str:
    a, b = (4096 * random.randrange(len(data) // 4096) for _ in range(2))
    data[a : a + 4096], data[b : b + 4096] = data[b : b + 4096], data[a : a + 4096]
    return f"pages at {a} and {b} swapped"


def _truncate(data: bytearray, at: int) -> str:
    del data[at:]
    return f"truncated to {at} bytes"
