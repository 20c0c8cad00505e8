"""Whether published counts are those of a recount: where they differ, what was left out, and the verdict. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import orjson

from unique_users.aggregation.completeness import fields, words
from unique_users.aggregation.counts import Count, Estimate, users_in
from unique_users.event_time.buckets import DAY_SECONDS, Bucket, Calendar, IntervalName
from unique_users.messages.frame_totals import FrameTotals
from unique_users.messages.merged_counts import PublishedBucket
from unique_users.reports.bucket_count import BucketCount, Format


class Difference(NamedTuple):
    """A bucket whose published and recounted counts differ; 0 stands for a bucket that is missing."""

    bucket: Bucket
    published: Count
    recounted: Count
    why: Sequence[str] = ()  # why the published one may be wrong; empty for a whole one

    def line(self, form: Format, calendar: Calendar) -> str:
        """As one line."""
        start = calendar.text(self.bucket)
        if form == "json":
            named = {"interval": self.bucket.interval, "start": start}
            counts = {"published": _plain(self.published), "recounted": _plain(self.recounted)}
            return orjson.dumps({**named, **counts, **fields(self.why)}).decode()
        published, recounted = _text(self.published), _text(self.recounted)
        return f"{start}  {self.bucket.interval}  published {published}  recounted {recounted}{words(self.why)}"


def _plain(count: Count) -> int | dict[str, int]:
    return count._asdict() if isinstance(count, Estimate) else count


def _text(count: Count) -> str:
    return f"{users_in(count):,}" + (f" ({count.lower:,} to {count.upper:,})" if isinstance(count, Estimate) else "")


def differences(
    buckets: Iterable[BucketCount],
    published: Mapping[Bucket, Count],
    why: Mapping[Bucket, Sequence[str]] = MappingProxyType({}),
) -> list[Difference]:
    """The buckets whose counts differ, oldest first; `why` has those published ones that are not whole."""
    recounted = {Bucket(bucket.interval, bucket.start): bucket.total for bucket in buckets}
    return [
        Difference(bucket, published.get(bucket, 0), recounted.get(bucket, 0), why.get(bucket, ()))
        for bucket in sorted(recounted.keys() | published.keys())
        if published.get(bucket, 0) != recounted.get(bucket, 0)
    ]


def within_time(
    published: Mapping[Bucket, PublishedBucket], buckets: Iterable[BucketCount]
) -> dict[Bucket, PublishedBucket]:
    """The published buckets between the first and the last recounted one of their interval."""
    starts: defaultdict[str, list[int]] = defaultdict(list)
    for bucket in buckets:
        starts[bucket.interval].append(bucket.start)
    spans = {interval: range(min(found), max(found) + 1) for interval, found in starts.items()}
    return {bucket: found for bucket, found in published.items() if bucket.start in spans.get(bucket.interval, ())}


def no_longer_kept(
    buckets: Iterable[BucketCount],
    published: Iterable[Bucket],
    keep_days: Mapping[IntervalName, int],
    calendar: Calendar,
) -> set[Bucket]:
    """The recounted buckets that are not published because they are too old, measured from the newest published one."""
    there = set(published)
    newest = max((bucket.start for bucket in there), default=0)
    missing = {Bucket(bucket.interval, bucket.start) for bucket in buckets} - there
    floors: dict[str, int] = {name: newest - days * DAY_SECONDS for name, days in keep_days.items() if days}
    return {bucket for bucket in missing if calendar.end(bucket) <= floors.get(bucket.interval, 0)}


class Verdict(NamedTuple):
    """How many buckets differ, of those that were compared."""

    different: int
    compared: int
    left_out: int = 0  # published ones outside the time range of the recounted frames
    gone: int = 0  # recounted ones that are older than counts are kept

    def words(self, counts: FrameTotals) -> str:
        """On one line; `counts` are those of the recount."""
        if self.different:
            text = f"{self.different:,} of {self.compared:,} buckets differ{'s' if self.different == 1 else ''}"
        else:
            text = "exact: no bucket differs"
        if counts.rejected:
            text += f", counting the {_share(counts)} of the frames that were accepted"
        if self.left_out:
            text += f"; {self.left_out:,} published ones are outside the files' time: --all compares them"
        if self.gone:
            text += f"; {self.gone:,} are older than counter.publish_keep_days and no longer published"
        return text


def accepted_words(counts: FrameTotals) -> str:
    """The sum of the frames, and the share that was accepted."""
    return f"{counts}, {_share(counts)} accepted" if counts.rejected else str(counts)


def _share(counts: FrameTotals) -> str:
    """In percent, rounded down, so that 100 means all of them."""
    tenths = 1_000 * counts.accepted // max(1, counts.read)
    return f"{tenths // 10}.{tenths % 10} %"
