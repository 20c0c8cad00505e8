"""Reports on stdout."""

from collections.abc import Sequence

from unique_users.event_time.buckets import Calendar
from unique_users.reports.bucket_count import BucketCount, Format
from unique_users.reports.report import Report


class Stdout:
    """An Output that prints lines of text or of JSON."""

    def __init__(self, form: Format, calendar: Calendar | None = None) -> None:
        self._form = form
        self._calendar = calendar

    def counts(self, counts: Sequence[BucketCount]) -> None:
        for count in counts:
            print(count.line(self._form, self._calendar))
        print(end="", flush=True)

    def report(self, report: Report) -> None:
        print("\n".join(report.lines(self._form)), flush=True)
