"""The recount: exact counts of frames by plain sets, the truth that the running system is checked against. Pure.

It shares no code with the bucketer: it reads one frame at a time with the standard library, by the same rules.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

import orjson
from msgspec.structs import asdict

from unique_users.aggregation.completeness import fields, words
from unique_users.aggregation.counts import Count, Estimate, sketch_class, users_in
from unique_users.config.schema import Config
from unique_users.errors import InputError
from unique_users.event_time.buckets import DAY_SECONDS, MINUTE, Bucket, Calendar, IntervalName, bucket_timestamp
from unique_users.messages.field_names import FirstFrames
from unique_users.messages.fields import RECORD_KEY, RECORD_TIME, Field
from unique_users.messages.frame import BadFrameError, CutLine, FrameFormat, Reason
from unique_users.messages.frame_parser import FrameParser
from unique_users.messages.frame_totals import FrameTotals
from unique_users.messages.merged_counts import PublishedBucket
from unique_users.queries.plain_clock import PlainClock
from unique_users.queries.plain_frames import frames_in
from unique_users.reports.bucket_count import BucketCount, Format
from unique_users.reports.examples import Example

START_BYTES = 1_000  # of a rejected frame: more than is ever shown


class FirstRejected(NamedTuple):
    """The first frame that was rejected for a reason."""

    number: int  # among the frames, starting at 1
    reason: str
    detail: str
    start: bytes  # of the frame, START_BYTES at most

    def words(self, skipped_lines: int | None) -> str:
        """On one line, safe for a terminal. `skipped_lines`: how many blank lines come before it, None if unknown."""
        where = f"frame {self.number}" if skipped_lines is None else f"line {self.number + skipped_lines}"
        return Example(self.reason, self.detail, where, self.start).words()


class Recount(NamedTuple):
    """The uids of each minute, by its start, and the frames read."""

    users: dict[int, set[str]]
    counts: FrameTotals
    first_rejected: Sequence[FirstRejected] = ()  # one for each reason, in the order in which they came
    other_fields: str | None = None  # which fields there are, if none of the first frames was accepted

    def rejected_lines(self, skipped_lines: int | None) -> list[str]:
        """An example for each reason, and the line about other fields; `skipped_lines` as in FirstRejected."""
        lines = [
            f"rejected: {first.words(skipped_lines)} ({self.counts.rejected[first.reason]:,} for this reason)"
            for first in self.first_rejected
        ]
        return lines if self.other_fields is None else [*lines, self.other_fields]

    def buckets(
        self,
        intervals: Iterable[str] = (MINUTE.name,),
        calendar: Calendar | None = None,
        estimates: Iterable[str] = (),
    ) -> list[BucketCount]:
        """The count of each bucket of each interval, oldest first; for those in `estimates`, a sketch's estimate."""
        calendar = calendar or Calendar()
        estimated = set(estimates)
        found = []
        for name in intervals:
            wide: defaultdict[int, set[str]] = defaultdict(set)
            for minute, users in self.users.items():
                wide[calendar.start(name, minute)] |= users
            for start, users in sorted(wide.items()):
                count = _estimate(users) if name in estimated else len(users)
                found.append(BucketCount(start, count, users_in(count), name))
        return found


def _estimate(users: Iterable[str]) -> Estimate:
    sketch = sketch_class()()
    sketch.add(users)
    return sketch.estimate()


def recount(messages: Iterable[bytes], config: Config, timestamp_ms: int) -> Recount:
    """Count the frames in `messages` as if they had all come through one partition of `feed` at `timestamp_ms`.

    Raises InputError if the configuration asks for the keys or times of Kafka records.
    """
    rules = config.bucketer
    form = FrameFormat(**asdict(config.frame))
    if names := {RECORD_KEY, RECORD_TIME}.intersection(Field(form.uid).names + Field(form.ts).names):
        message = f"frame: {' and '.join(sorted(names))}: only Kafka records have that, so there is nothing to recount"
        raise InputError(message)
    clock = PlainClock(rules.allowed_lateness_seconds)
    last = (timestamp_ms + rules.future_seconds_max * 1000) // 1000
    users: defaultdict[int, set[str]] = defaultdict(set)
    counts = FrameTotals()
    first_rejected: dict[str, FirstRejected] = {}
    first_frames = FirstFrames(config.frame.uid, config.frame.ts)
    other_fields = None

    for frame, found in chain.from_iterable(frames_in(message, form) for message in messages):
        counts.read += 1
        error = _rejection(found, last, timestamp_ms, clock)
        if error:
            reason = error.reason.value
            counts.rejected[reason] += 1
            if reason not in first_rejected:
                first_rejected[reason] = _first_rejected(counts.read, frame, error, form)
            if not first_frames.done:
                other_fields = first_frames.add([frame], 0, [reason])
        elif not isinstance(found, BadFrameError):
            counts.accepted += 1
            first_frames.done = True
            users[bucket_timestamp(found[1])].add(found[0])
    return Recount(dict(users), counts, tuple(first_rejected.values()), other_fields or first_frames.told())


def _rejection(
    found: tuple[str, int] | BadFrameError, last: int, timestamp_ms: int, clock: PlainClock
) -> BadFrameError | None:
    if isinstance(found, BadFrameError):
        return found
    _, ts = found
    if ts > last and timestamp_ms >= 0:
        return BadFrameError(Reason.FUTURE, f"{ts - timestamp_ms // 1000} s ahead of its record")
    return None if clock.admits(ts) else BadFrameError(Reason.LATE, f"{ts} is before {clock.watermark}")


def _first_rejected(number: int, frame: bytes, error: BadFrameError, form: FrameFormat) -> FirstRejected:
    if isinstance(frame, CutLine):
        return FirstRejected(number, error.reason.value, error.detail, bytes(frame[:START_BYTES]))
    # The judgement is the recount's own; the wording is the bucketer's, which names the setting that would fit.
    words = next((refused.error.detail for refused in FrameParser(form).parse_all([frame]).refused), error.detail)
    return FirstRejected(number, error.reason.value, words, bytes(frame[:START_BYTES]))


def require_accepted(result: Recount, path: str, skipped_lines: int | None) -> None:
    """Raise InputError if there is nothing to compare: `path` has no frame, or none that was accepted.

    `skipped_lines` as in FirstRejected.
    """
    if result.counts.accepted:
        return
    if not result.counts.read:
        message = f"{path} is empty, there is nothing to compare: name a file with one JSON object a line"
    else:
        first = result.first_rejected[0].words(skipped_lines)
        message = f"no frame of {path} was accepted: {result.counts.rejected.total():,} rejected; the first, {first}"
    raise InputError(message)


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
