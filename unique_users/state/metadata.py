"""Facts: what a state knows about itself, besides its counts and its position. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from unique_users.aggregation.bucket_users import Origin
from unique_users.aggregation.completeness import ALWAYS, Gap, Why
from unique_users.aggregation.counts import Count
from unique_users.event_time.buckets import Bucket
from unique_users.event_time.rollup import Rule
from unique_users.messages.checkpoints import Checkpoint


class Facts(msgspec.Struct, frozen=True):
    """Saved together with the position in one transaction."""

    generation: str = ""  # of the counts published from it; empty for those of form 2
    retention_seconds: int | None = None  # the retention it was kept with; None before form 3
    late: int = 0  # users that arrived for buckets that were gone, and went to the dead-letter topic
    gaps: tuple[Gap, ...] = ()
    former_gaps: tuple[Gap, ...] = ()  # no bucket held can overlap these any more, but published counts of others do
    withdrawn: tuple[Bucket, ...] = ()  # published counts that are to be deleted there
    history: tuple[Checkpoint, ...] = ()  # oldest first
    feed_gap: int | None = None  # frames of feed are missing from this time on, until the next frame shows up to when
    # How far the stream was when a state from before counter.publish_keep_days met it; older counts stay in the topic.
    counts_kept_before: int | None = None
    counts_withdrawn_until: int = 0  # the low watermark by which all counts that are old enough have left the topic
    removed: tuple[Gap, ...] = ()  # what has left the topic for its age, or may leave it: `counts` is known to say so
    unsettled: bool = False  # what former states published has not yet been compared with what the log holds

    @property
    def all_gaps(self) -> tuple[Gap, ...]:
        """The gaps of buckets held and of future ones."""
        if self.feed_gap is None:
            return self.gaps
        return (*self.gaps, Gap("", self.feed_gap, ALWAYS, Why.RECORDS_DELETED))


class Snapshot(NamedTuple):
    """What a state says to an observer: everything but its users."""

    origin: Origin
    intervals: Mapping[str, Rule]
    counts: Mapping[Bucket, Count]
    facts: Facts


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Facts).decode


def pack_facts(facts: Facts) -> bytes:
    """Encode facts for a state."""
    return _pack(facts)


def unpack_facts(data: bytes) -> Facts:
    """Decode what `pack_facts` wrote. Raises msgspec.DecodeError."""
    return _unpack(data)
