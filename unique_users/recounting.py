"""The recount: exact counts of frames by plain sets, the truth that the running system is checked against. Pure.

It shares with the bucketer the rules of what a frame is, and nothing of the way through Kafka.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple

import orjson
from msgspec.structs import asdict

from unique_users.buckets import iso_time
from unique_users.clock import StreamClock
from unique_users.config import Config
from unique_users.frames import FrameParser
from unique_users.rekey import FrameCounts, Rekeyer
from unique_users.report import BucketCount, Format

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


class Difference(NamedTuple):
    """A bucket whose published count is not the recounted one; 0 stands for a bucket that is missing."""

    start: int
    published: int
    recounted: int

    def line(self, form: Format) -> str:
        """As one line."""
        start = iso_time(self.start)
        if form == "json":
            return orjson.dumps({**self._asdict(), "start": start}).decode()
        return f"{start}  published {self.published:,}  recounted {self.recounted:,}"


def differences(result: Recount, published: Mapping[int, int]) -> list[Difference]:
    """The buckets whose counts differ, oldest first."""
    recounted = {start: len(users) for start, users in result.users.items()}
    return [
        Difference(start, published.get(start, 0), recounted.get(start, 0))
        for start in sorted(recounted.keys() | published.keys())
        if published.get(start, 0) != recounted.get(start, 0)
    ]
