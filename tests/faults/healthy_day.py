"""24 hours of a healthy system in compressed time, with its daily rhythm: no alert may fire.

`record`: the real processes run on a real broker for 24 minutes, a minute for an hour, and their metrics are asked for
four times a second. `evaluate`: the times of these samples are stretched by 60, a real Prometheus holds them, and
every rule of deploy/prometheus/alerts.yml is asked over all of them.
"""

import argparse
import gzip
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import repository  # noqa: F401 - finds the product
from harness import end_in_order_when_terminated, new_broker
from observed import Observed, Stream

from unique_users.metrics.declared import ALL, Process

STRETCH = 60
SCRAPES_A_SECOND = 4
RATE_AT_NIGHT, RATE_IN_THE_EVENING = 2.0, 200.0  # frames a real second
BUSIEST_HOUR = 20


def rate_at(hour: float) -> float:
    """Frames a second at an hour of the day: a hundred times as many in the evening as at night."""
    wave = (1 + math.cos((hour - BUSIEST_HOUR) / 24 * 2 * math.pi)) / 2
    return RATE_AT_NIGHT + (RATE_IN_THE_EVENING - RATE_AT_NIGHT) * wave


def record(minutes: float, into: Path) -> None:
    """Let all run for so many minutes, and write down every answer to a scrape, with its time."""
    with tempfile.TemporaryDirectory() as place, new_broker(Path(place) / "kafka") as kafka:
        begin = time.monotonic()
        stream = Stream(lambda: rate_at((time.monotonic() - begin) / 60))
        with Observed(Path(place) / "system", kafka.bootstrap_servers) as observed:
            observed.start_all(stream)
            time.sleep(10)
            begin = time.monotonic()
            with gzip.open(into, "wt", compresslevel=3) as file:
                for line in scrapes(observed, minutes * 60):
                    file.write(line)
            stream.end()


def scrapes(observed: Observed, seconds: float) -> Iterator[str]:
    """A line of JSON for each scrape."""

    def scrape(process: Process) -> str:
        try:
            text = observed.asked(process, "metrics")
        except OSError:
            text = ""
        samples = [line for line in text.splitlines() if not line.startswith("#")]
        return json.dumps({"at": time.time(), "process": process, "samples": samples}) + "\n"

    due = begin = time.monotonic()
    with ThreadPoolExecutor(len(ALL)) as pool:
        while due < begin + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            yield from pool.map(scrape, ALL)
            due += 1 / SCRAPES_A_SECOND


if __name__ == "__main__":
    end_in_order_when_terminated()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=24, help="how long to record; 24: a day")
    parser.add_argument("--into", type=Path, default=Path("day.jsonl.gz"), help="the recording")
    arguments = parser.parse_args()
    record(arguments.minutes, arguments.into)
