"""What the benchmark compares."""

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Variant(NamedTuple):
    """What is compared: a client, whether a minute's users go in one record, and over how much the work is spread."""

    client: str
    combine: bool
    partitions: int = 1  # of feed and of bucketed
    processes: int = 1  # bucketers, and as many counters
    counted: str = ""  # one of COUNTED, or what the settings say
    metrics: bool = False  # served, and scraped
    root: Path = ROOT  # whose scripts these are: another checkout's, to compare with

    def __str__(self) -> str:
        form = f"{self.client} {'combine' if self.combine else 'one record a frame'}"
        form += f", {self.partitions} partitions, {self.processes} of each" if self.partitions > 1 else ""
        form += f", {self.counted}" if self.counted else ""
        form += ", metrics" if self.metrics else ""
        return form + ("" if self.root == ROOT else f", in {self.root.name}")

    @property
    def feed(self) -> str:
        """The topic with the frames over so many partitions."""
        return feed(self.partitions)

    def settings(self) -> list[str]:
        """For `--set`."""
        settings = [f"client={self.client}", f"bucketer.combine={str(self.combine).lower()}"]
        settings += [f"topics.feed.name={self.feed}", f"topics.feed.partitions={self.partitions}"]
        settings += [f"topics.bucketed.partitions={self.partitions}"]
        settings += COUNTED.get(self.counted, [])
        return settings + (["bucketer.partition_by=uid"] if self.partitions > 1 else [])


def feed(partitions: int) -> str:
    """The name of the topic with the frames over so many partitions."""
    return "feed" if partitions == 1 else f"feed-{partitions}"


ALL_INTERVALS = "counter.intervals=[minute, hour, day, week, month, year]"
COUNTED = {
    "minute": ["counter.intervals=[minute]"],
    "minute to year": [ALL_INTERVALS],
    "minute to year, from week on estimated": [ALL_INTERVALS, "counter.estimates=[week, month, year]"],
}
VARIANTS = [Variant(client, combine) for client in ("kafka-python", "librdkafka") for combine in (False, True)]
