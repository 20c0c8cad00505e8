"""What the scripts print on stdout: lines for people, or JSON lines. Pure."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import orjson

from unique_users.buckets import MINUTE, Bucket, Calendar, iso_time
from unique_users.estimates import Count, Estimate, users_in
from unique_users.rekey import FrameCounts

Format = Literal["text", "json"]


def bucketer_report(counts: FrameCounts, lag: int | None, missing: Sequence[str] = ()) -> str:
    """The bucketer's line. `lag` is None when it is not known, `missing` the topics that are gone."""
    return f"{counts}, {_lag(lag, missing)}"


class BucketCount(NamedTuple):
    """The count of one bucket, and how much of it is new since it was last reported."""

    start: int
    total: Count
    new: int
    interval: str = MINUTE.name

    @property
    def unique_users(self) -> int:
        """The number without its bounds."""
        return users_in(self.total)

    def line(self, form: Format, calendar: Calendar | None = None) -> str:
        """As one line of a report."""
        start = (calendar or Calendar()).text(Bucket(self.interval, self.start))
        if form == "json":
            fields = {
                "interval": self.interval,
                "start": start,
                **users_fields(self.total),
                "new": self.new,
            }
            return orjson.dumps(fields).decode()
        bounds = f" ({self.total.lower:,} to {self.total.upper:,})" if isinstance(self.total, Estimate) else ""
        return f"{start}  {self.interval}  {self.unique_users:,} unique users{bounds}  +{self.new:,}"


def users_fields(count: Count) -> dict[str, int]:
    """A count as fields of JSON: `unique_users`, of an estimate with `lower` and `upper`."""
    return count._asdict() if isinstance(count, Estimate) else {"unique_users": count}


class Summary(NamedTuple):
    """The line that every report ends with. `lag` is None when it is not known."""

    at: int  # wall time in epoch seconds
    messages_read: int  # since the last report
    buckets_changed: int
    lag: int | None
    unreadable: int = 0  # messages since the last report that are not this program's
    ignored: int = 0  # messages since the last report for buckets past their retention
    partitions: tuple[int, ...] = (0,)  # of `bucketed`, that the counts are of
    of: int | None = 1  # so many there are; None while no partition was opened
    missing: tuple[str, ...] = ()  # topics that are gone

    def line(self, form: Format) -> str:
        """As one line of a report."""
        at = iso_time(self.at)
        if form == "json":
            fields = {
                "report": at,
                "messages_read": self.messages_read,
                "buckets_changed": self.buckets_changed,
                "lag": self.lag,
                "broker_answers": self.lag is not None or bool(self.missing),
                "missing": list(self.missing),
                "unreadable": self.unreadable,
                "ignored": self.ignored,
                "partitions": list(self.partitions),
                "of": self.of,
            }
            return orjson.dumps(fields).decode()
        text = f"{at}  report  {self.messages_read:,} messages read, {self.buckets_changed:,} buckets changed, "
        text += _lag(self.lag, self.missing)
        text += f", {self.unreadable:,} unreadable messages skipped" if self.unreadable else ""
        text += f", {self.ignored:,} messages past retention ignored" if self.ignored else ""
        return text + (f", {self._share()}" if len(self.partitions) != self.of else "")

    def _share(self) -> str:
        if not self.partitions:
            return "no partition"
        numbers = " ".join(map(str, self.partitions))
        return f"partition{'s' if len(self.partitions) > 1 else ''} {numbers} of {self.of}"


def _lag(lag: int | None, missing: Sequence[str]) -> str:
    known = [] if lag is None else [f"lag {lag:,}"]
    gone = [f"no topic {name!r}" for name in missing]
    return ", ".join([*known, *gone]) or "no answer from the broker"
