"""The recount: exact counts of frames by plain sets, the truth that the running system is checked against. Pure.

It shares no code with the bucketer: it reads one frame at a time with the standard library, by the same rules.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from msgspec.structs import asdict

from unique_users.aggregation.counts import Estimate, sketch_class, users_in
from unique_users.config.schema import Config
from unique_users.errors import InputError
from unique_users.event_time.buckets import MINUTE, Calendar, bucket_timestamp
from unique_users.messages.field_names import FirstFrames
from unique_users.messages.fields import RECORD_KEY, RECORD_TIME, Field
from unique_users.messages.frame import BadFrameError, CutLine, FrameFormat, Reason
from unique_users.messages.frame_parser import FrameParser
from unique_users.messages.frame_totals import FrameTotals
from unique_users.queries.plain_clock import PlainClock
from unique_users.queries.plain_frames import frames_in
from unique_users.reports.bucket_count import BucketCount
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
