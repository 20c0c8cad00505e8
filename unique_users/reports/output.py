"""Where reports go. Another output implements `Output`, and is added in commands/counter.py."""

from collections.abc import Sequence
from typing import Protocol

from unique_users.reports.report import BucketCount, Summary


class Output(Protocol):
    """Takes what is reported."""

    def counts(self, counts: Sequence[BucketCount]) -> None:
        """The buckets of one report, the short intervals first."""

    def summary(self, summary: Summary) -> None:
        """What the report ends with."""
