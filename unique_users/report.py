"""What the scripts print on stdout: lines for people, or JSON lines. Pure."""

from typing import Literal, NamedTuple

import orjson

from unique_users.buckets import MINUTE, Bucket, Calendar, iso_time
from unique_users.estimates import Count, Estimate, users_in
from unique_users.marks import Why, fields, words
from unique_users.rekey import FrameCounts

Format = Literal["text", "json"]


def bucketer_report(counts: FrameCounts, lag: int | None) -> str:
    """The bucketer's line."""
    return f"{counts}, {_lag(lag)}"


class BucketCount(NamedTuple):
    """The count of one bucket, and how much of it is new since it was last reported."""

    start: int
    total: Count
    new: int
    interval: str = MINUTE.name
    why: tuple[Why, ...] = ()  # it may be wrong; nothing for a whole one

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
    """A count as fields of JSON: `unique_users`, of an estimate with `lower` and `upper`."""
    return count._asdict() if isinstance(count, Estimate) else {"unique_users": count}


class Summary(NamedTuple):
    """The line that every report ends with. `lag` is None when the broker does not answer."""

    at: int  # wall time in epoch seconds
    messages_read: int  # since the last report
    buckets_changed: int
    lag: int | None
    unreadable: int = 0  # messages since the last report that are not this program's
    ignored: int = 0  # messages since the last report for buckets past their retention
    partitions: tuple[int, ...] = (0,)  # of `bucketed`, that the counts are of
    of: int | None = 1  # so many there are; None while no partition was opened

    def line(self, form: Format) -> str:
        """As one line of a report."""
        at = iso_time(self.at)
        if form == "json":
            fields = {
                "report": at,
                "messages_read": self.messages_read,
                "buckets_changed": self.buckets_changed,
                "lag": self.lag,
                "broker_answers": self.lag is not None,
                "unreadable": self.unreadable,
                "ignored": self.ignored,
                "partitions": list(self.partitions),
                "of": self.of,
            }
            return orjson.dumps(fields).decode()
        text = f"{at}  report  {self.messages_read:,} messages read, {self.buckets_changed:,} buckets changed, "
        text += _lag(self.lag)
        text += f", {self.unreadable:,} unreadable messages skipped" if self.unreadable else ""
        text += f", {self.ignored:,} messages past retention ignored" if self.ignored else ""
        return text + (f", {self._share()}" if len(self.partitions) != self.of else "")

    def _share(self) -> str:
        if not self.partitions:
            return "no partition"
        numbers = " ".join(map(str, self.partitions))
        return f"partition{'s' if len(self.partitions) > 1 else ''} {numbers} of {self.of}"


def _lag(lag: int | None) -> str:
    return "no answer from the broker" if lag is None else f"lag {lag:,}"
