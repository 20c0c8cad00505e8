"""What each bucket had when the stream's clock passed its end: late users change its count, and not this. Pure."""

from collections.abc import Iterable, Mapping

from unique_users.aggregation.counts import Count, Estimate
from unique_users.event_time.buckets import MINUTE, Bucket, Calendar

# Of event time. An end that is noticed later is not known: a counter that was away cannot tell who came in time.
NOTICED_SECONDS = 60


class EndCounts:
    """The end counts of a partition's exact buckets; those that are not known are absent."""

    def __init__(self, saved: Mapping[Bucket, int], calendar: Calendar) -> None:
        self._known = dict(saved)
        self._calendar = calendar
        self._clock: int | None = None
        self._noticed_since = 0  # every end from here up to the clock was noticed in time
        self.unsaved: dict[Bucket, int] = {}
        self.newest_minute: Bucket | None = None  # that has ended, and was noticed in time

    def of(self, buckets: Iterable[Bucket]) -> dict[Bucket, int]:
        """What is known of these."""
        return {bucket: self._known[bucket] for bucket in buckets if bucket in self._known}

    def follow(self, clock: int, counts: Mapping[Bucket, Count]) -> set[Bucket]:
        """Take the counts of the buckets that have ended by the time `clock` of the stream. Returns these buckets.

        Everything that came before the clock did must have been counted.
        """
        before = self._clock
        if before is not None and clock <= before:
            return set()
        since = clock - NOTICED_SECONDS
        if before is None or before < since:
            self._noticed_since = since
        else:
            since = before
        self._clock = clock
        ended = {
            bucket: count
            for bucket, count in counts.items()
            if bucket.start < clock
            and bucket not in self._known
            and not isinstance(count, Estimate)
            and since < self._calendar.end(bucket) <= clock
        }
        self._note(ended)
        minutes = [bucket for bucket in ended if bucket.interval == MINUTE.name]
        self.newest_minute = max(minutes, default=self.newest_minute)
        return set(ended)

    def note_first(self, buckets: Iterable[Bucket]) -> None:
        """Note exact buckets that have their first users only now: those that have ended had none then."""
        if self._clock is None:
            return
        late = [bucket for bucket in buckets if bucket.start < self._clock and bucket not in self._known]
        self._note({b: 0 for b in late if self._noticed_since < self._calendar.end(b) <= self._clock})

    def mark_saved(self) -> None:
        """Note that all are saved."""
        self.unsaved = {}

    def forget(self, buckets: Iterable[Bucket]) -> None:
        """Forget buckets that are dropped."""
        for bucket in buckets:
            self._known.pop(bucket, None)
            self.unsaved.pop(bucket, None)

    def _note(self, found: Mapping[Bucket, int]) -> None:
        self._known.update(found)
        self.unsaved.update(found)
