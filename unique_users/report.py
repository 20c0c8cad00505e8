"""What the scripts print on stdout: lines for people, or JSON lines. Pure."""

from typing import Literal, NamedTuple

import orjson

from unique_users.buckets import MINUTE, iso_time
from unique_users.rekey import FrameCounts

Format = Literal["text", "json"]


def bucketer_report(counts: FrameCounts, lag: int | None) -> str:
    """The bucketer's line."""
    return f"{counts}, {_lag(lag)}"


class BucketCount(NamedTuple):
    """The count of one bucket, and how much of it is new since it was last reported."""

    start: int
    unique_users: int
    new: int

    def line(self, form: Format) -> str:
        """As one line of a report."""
        start = iso_time(self.start)
        if form == "json":
            fields = {
                "interval": MINUTE.name,
                "start": start,
                "unique_users": self.unique_users,
                "new": self.new,
            }
            return orjson.dumps(fields).decode()
        return f"{start}  {MINUTE.name}  {self.unique_users:,} unique users  +{self.new:,}"


class Summary(NamedTuple):
    """The line that every report ends with. `lag` is None when the broker does not answer."""

    at: int  # wall time in epoch seconds
    messages_read: int  # since the last report
    buckets_changed: int
    lag: int | None
    unreadable: int = 0  # messages since the last report that are not this program's
    ignored: int = 0  # messages since the last report for buckets past their retention

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
            }
            return orjson.dumps(fields).decode()
        text = f"{at}  report  {self.messages_read:,} messages read, {self.buckets_changed:,} buckets changed, "
        text += _lag(self.lag)
        text += f", {self.unreadable:,} unreadable messages skipped" if self.unreadable else ""
        return text + (f", {self.ignored:,} messages past retention ignored" if self.ignored else "")


def _lag(lag: int | None) -> str:
    return "no answer from the broker" if lag is None else f"lag {lag:,}"
