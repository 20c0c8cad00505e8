"""Where reports go. To add an output, implement `Output` and add it in commands/counter.py."""

from collections.abc import Sequence
from typing import Protocol

from unique_users.reports.report import BucketCount, Summary


class Output(Protocol):
    """Receives reports."""

    def counts(self, counts: Sequence[BucketCount]) -> None:
        """The buckets of one report, the short intervals first."""

    def summary(self, summary: Summary) -> None:
        """The summary at the end of a report."""
