"""Where reports go. To add an output, implement `Output` and add it in commands/outputs.py: all scripts use it then."""

from collections.abc import Sequence
from typing import Protocol

from unique_users.reports.bucket_count import BucketCount
from unique_users.reports.report import Report


class Output(Protocol):
    """Receives reports."""

    def counts(self, counts: Sequence[BucketCount]) -> None:
        """The buckets of one report of the counter, the short intervals first."""

    def report(self, report: Report) -> None:
        """What a script has read and has left to do; it comes with every report, after the counts."""
