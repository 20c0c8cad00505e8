"""The count of one bucket, as a line of a report. Pure."""

from typing import Literal, NamedTuple

import orjson

from unique_users.aggregation.completeness import Why, fields, words
from unique_users.aggregation.counts import Count, Estimate, users_in
from unique_users.event_time.buckets import MINUTE, Bucket, Calendar

Format = Literal["text", "json"]


class BucketCount(NamedTuple):
    """The count of one bucket, and how much of it is new since the last report."""

    start: int
    total: Count
    new: int
    interval: str = MINUTE.name
    why: tuple[Why, ...] = ()  # why it may be wrong; empty for a whole bucket

    @property
    def unique_users(self) -> int:
        """The number without its bounds."""
        return users_in(self.total)

    def line(self, form: Format, calendar: Calendar | None = None) -> str:
        """As one line of a report."""
        start = (calendar or Calendar()).text(Bucket(self.interval, self.start))
        if form == "json":
            said = {
                "interval": self.interval,
                "start": start,
                **users_fields(self.total),
                "new": self.new,
                **fields(self.why),
            }
            return orjson.dumps(said).decode()
        bounds = f" ({self.total.lower:,} to {self.total.upper:,})" if isinstance(self.total, Estimate) else ""
        return f"{start}  {self.interval}  {self.unique_users:,} unique users{bounds}  +{self.new:,}{words(self.why)}"


def users_fields(count: Count) -> dict[str, int]:
    """A count as JSON fields: `unique_users`, plus `lower` and `upper` for an estimate."""
    return count._asdict() if isinstance(count, Estimate) else {"unique_users": count}
