"""The recount: exact counts of frames by plain sets, the truth that the running system is checked against. Pure.

It shares with the bucketer the rules of what a frame is, and nothing of the way through Kafka.
"""

from collections import defaultdict
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import orjson
from msgspec.structs import asdict

from unique_users.clock import StreamClock
from unique_users.config import Config
from unique_users.frames import FrameParser
from unique_users.rekey import FrameCounts, Rekeyer
from unique_users.report import BucketCount

CHUNK_FRAMES = 10_000


class Recount(NamedTuple):
    """The uids of each bucket, by its start, and the frames read."""

    users: dict[int, set[str]]
    counts: FrameCounts

    def buckets(self) -> list[BucketCount]:
        """The count of each bucket, oldest first."""
        return [BucketCount(start, len(users), len(users)) for start, users in sorted(self.users.items())]


def recount(frames: Iterable[bytes], config: Config, timestamp_ms: int) -> Recount:
    """Count `frames` as if all of them had come through one partition of `feed` at `timestamp_ms`."""
    rules = config.bucketer
    rekeyer = Rekeyer(FrameParser(**asdict(config.frame)), rules.future_seconds_max)
    clock = StreamClock(rules.retention_seconds)
    users: defaultdict[int, set[str]] = defaultdict(set)
    counts = FrameCounts()
    remaining = iter(frames)
    while chunk := list(islice(remaining, CHUNK_FRAMES)):
        rekeyed = rekeyer.rekey(chunk, [timestamp_ms] * len(chunk), clock)
        for key, value in zip(rekeyed.keys, rekeyed.values, strict=True):
            users[int(key)].add(orjson.loads(value)["uid"])
        counts += rekeyed.counts()
    return Recount(dict(users), counts)
