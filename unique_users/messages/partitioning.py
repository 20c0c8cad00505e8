"""Which partition of `bucketed` a record goes to, and whether that has changed. Pure."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Self
from zlib import crc32

# Counts of the old topic say nothing about the new one: a reader would take the larger of two that should be added.
NEW_TOPIC = (
    "Create a new topic, set topics.bucketed.name to it, topics.counts.name and bucketer.group to new ones, and let the"
    " bucketer fill it from the start of feed"
)


def partition_of(uid: str, partitions: int) -> int:
    """The partition of all records of a user: CRC-32 (zlib's) of the uid in UTF-8, modulo `partitions`."""
    return crc32(uid.encode()) % partitions


def partitions_of_keys(keys: Sequence[bytes], partitions: int) -> list[int]:
    """The partition of each key, as Kafka's own clients choose it: murmur2 of the key, modulo `partitions`."""
    if partitions == 1:
        return [0] * len(keys)
    of_key = {key: _murmur2(key) % partitions for key in set(keys)}
    return [of_key[key] for key in keys]


@lru_cache(maxsize=10_000)
def _murmur2(data: bytes) -> int:
    """The hash of a key, without the sign bit, as in Kafka's clients."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(data)
    whole = len(data) - len(data) % 4
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        h = h * m & mask ^ (k ^ k >> 24) * m & mask
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return (h ^ h >> 15) & 0x7FFFFFFF


class Layout(NamedTuple):
    """How records are spread over a topic. It may not change: a minute or user must stay in one partition."""

    topic_id: str  # empty if the broker has none
    partition_by: str
    partitions: int

    def __str__(self) -> str:
        """As one word of an offset commit's metadata."""
        return f"{self.topic_id}/{self.partition_by}/{self.partitions}"

    @classmethod
    def parsed(cls, text: str) -> Self | None:
        """Parse a layout written by `__str__`; None for any other string."""
        topic_id, _, rest = text.partition("/")
        partition_by, _, partitions = rest.partition("/")
        return cls(topic_id, partition_by, int(partitions)) if partitions.isdecimal() else None

    def fits(self, former: "Layout") -> bool:
        """Whether records may be added to those written with the layout `former`."""
        if self.topic_id != former.topic_id:
            return True  # another topic, which holds none of them
        alone = self.partitions == 1
        return self.partitions == former.partitions and (alone or self.partition_by == former.partition_by)

    def describe(self) -> str:
        """In words."""
        return f"by {self.partition_by} over {self.partitions} partitions"
