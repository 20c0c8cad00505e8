"""How long a count stays in the topic `counts`. Pure."""

from collections.abc import Mapping

from unique_users.aggregation.completeness import Gap, Why
from unique_users.event_time.buckets import DAY_SECONDS, Bucket, Calendar, IntervalName


class PublishKeep:
    """Which buckets are old enough to leave `counts`, by `days` of event time for each interval; 0 means never.

    A low watermark is `allowed_lateness_seconds` behind the stream's clock, which the days are measured from. No bucket
    leaves while it ends less than `open_seconds` before the low watermark.
    """

    def __init__(
        self,
        days: Mapping[IntervalName, int],
        allowed_lateness_seconds: int,
        calendar: Calendar,
        open_seconds: int = 0,
    ) -> None:
        self._calendar = calendar
        limited: dict[str, int] = {name: number for name, number in days.items() if number}
        self._seconds = {
            name: max(open_seconds, number * DAY_SECONDS - allowed_lateness_seconds) for name, number in limited.items()
        }

    def __bool__(self) -> bool:
        """Whether any count leaves the topic at all."""
        return bool(self._seconds)

    def is_over(self, bucket: Bucket, low_watermark: int | None) -> bool:
        """Whether a bucket is to leave `counts`, or is not to get there."""
        seconds = self._seconds.get(bucket.interval)
        if seconds is None or low_watermark is None or bucket.start >= low_watermark - seconds:
            return False
        return self._calendar.end(bucket) <= low_watermark - seconds

    def gaps(self, kept_before: int, low_watermark: int) -> tuple[Gap, ...]:
        """What is to leave `counts`: one gap for each interval, without what was too old at the time `kept_before`."""
        found = []
        for name, seconds in self._seconds.items():
            start, end = (self._calendar.start(name, max(0, at - seconds)) for at in (kept_before, low_watermark))
            if start < end:
                found.append(Gap(name, start, end, Why.COUNT_REMOVED))
        return tuple(found)
