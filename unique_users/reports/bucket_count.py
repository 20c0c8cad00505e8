"""The count of one bucket, as a line of a report. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple, Self

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

    @classmethod
    def parsed(cls, said: Mapping[str, Any]) -> Self:
        """The count in a JSON line of a report. Raises KeyError and ValueError for other JSON."""
        users = said["unique_users"]
        total = Estimate(users, said["lower"], said["upper"]) if "lower" in said else users
        start = int(datetime.fromisoformat(said["start"]).timestamp())
        return cls(start, total, said["new"], said["interval"], tuple(map(Why, said.get("why", ()))))

    @property
    def bucket(self) -> Bucket:
        """Which bucket it is."""
        return Bucket(self.interval, self.start)

    @property
    def unique_users(self) -> int:
        """The number without its bounds."""
        return users_in(self.total)

    def line(self, form: Format, calendar: Calendar | None = None) -> str:
        """As one line of a report."""
        start = (calendar or Calendar()).text(self.bucket)
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
