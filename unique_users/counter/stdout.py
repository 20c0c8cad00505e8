"""Reports on stdout."""

import sys
from collections.abc import Sequence

from unique_users.event_time.buckets import Calendar
from unique_users.reports.report import BucketCount, Format, Summary


class Stdout:
    """An Output that prints lines of text or of JSON."""

    def __init__(self, form: Format, calendar: Calendar) -> None:
        self._form = form
        self._calendar = calendar

    def counts(self, counts: Sequence[BucketCount]) -> None:
        for count in counts:
            print(count.line(self._form, self._calendar))
        sys.stdout.flush()

    def summary(self, summary: Summary) -> None:
        print("\n".join(summary.lines(self._form)), flush=True)
