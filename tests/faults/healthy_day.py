"""24 hours of a healthy system in compressed time, with its daily rhythm: no alert may fire.

`record`: the real processes run on a real broker for 24 minutes, a minute for an hour, and their metrics are asked for
four times a second. `evaluate`: the times of these samples are stretched by 60, a real Prometheus holds them, and
every rule of deploy/prometheus/alerts.yml is asked over all of them.
"""

import argparse
import gzip
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import repository  # noqa: F401 - finds the product
from harness import end_in_order_when_terminated, new_broker
from observed import Observed, Stream
from prometheus import JOB, RULES, Prometheus, binary, seconds_of

from unique_users.metrics import Process
from unique_users.metrics.declared import ALL

STRETCH = 60
SCRAPES_A_SECOND = 4
RATE_AT_NIGHT, RATE_IN_THE_EVENING = 2.0, 200.0  # frames a real second
BUSIEST_HOUR = 20
DAY_SECONDS = 86_400
EVALUATION_SECONDS = 15.0
SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
TIME = re.compile(r"_(timestamp|start_time)_seconds$")
READ = 'unique_users_frames_read_total{job="unique-users-bucketer"}'
IN = 'unique_users_records_in_total{job="unique-users-bucketer"}'
FACTS = {  # what the day was like
    "hours": "(max(timestamp(last_over_time(up[26h]))) - min(min_over_time(timestamp(up)[26h:1m]))) / 3600",
    "scrapes": "sum(count_over_time(up[26h]))",
    "scrapes without an answer": "sum(count_over_time(up[26h])) - sum(sum_over_time(up[26h]))",
    "frames": f"sum(max_over_time({READ}[26h])) - sum(min_over_time({READ}[26h]))",
    "reads of frames that were read before": f"sum(max_over_time({IN}[26h])) - sum(max_over_time({READ}[26h]))",
    "longest lag, seconds": "max(max_over_time(unique_users_lag_seconds[26h]))",
    "longest silence of the broker, seconds": "max(max_over_time(unique_users_broker_silent_seconds[26h]))",
}


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


class Evaluated(NamedTuple):
    """What became of a rule: its `for`, and how long its expression was true at most without a break."""

    alert: str
    needed: float
    longest: float

    @property
    def fires(self) -> bool:
        return self.longest >= self.needed


def stretched(recording: Path, names: set[str]) -> Iterator[tuple[float, str]]:
    """Each sample of these metrics with its time on a day of 24 hours. What is a time itself keeps its age."""
    begin, first = float(int(time.time()) - DAY_SECONDS - 3_600), 0.0
    with gzip.open(recording, "rt") as file:
        for line in file:
            scrape = json.loads(line)
            first = first or scrape["at"]
            now = begin + (scrape["at"] - first) * STRETCH
            own = f'job="{JOB.format(scrape["process"])}",instance="{scrape["process"]}"'
            yield now, f"up{{{own}}} {float(bool(scrape['samples']))}"
            for sample in scrape["samples"]:
                name, labels, value = SAMPLE.fullmatch(sample).groups("")  # type: ignore[union-attr]
                if name in names:
                    number = now - (scrape["at"] - float(value)) if TIME.search(name) else float(value)
                    yield now, f"{name}{{{own}{',' if labels else ''}{labels}}} {number!r}"


def evaluate(recording: Path, directory: Path) -> list[Evaluated]:
    """Ask every rule over the whole day, at every evaluation of a Prometheus that scrapes every 15 seconds."""
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    names = set(re.findall(r"\w+", " ".join(rule["expr"] for rule in rules)))
    samples = list(stretched(recording, names))
    text = directory / "day.om"
    with text.open("w") as file:
        file.writelines(f"{sample} {at:.3f}\n" for at, sample in samples)
        file.write("# EOF\n")
    data = directory / "prometheus" / "data"
    data.mkdir(parents=True)
    line = [binary("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(text), str(data)]
    subprocess.run(line, check=True, capture_output=True)
    (begin, _), (end, _) = samples[0], samples[-1]
    found = []
    with Prometheus(directory / "prometheus", {}) as prometheus:
        for what, expression in FACTS.items():
            (fact,) = asked(prometheus, expression, end, end)
            print(f"{what}: {float(fact['values'][-1][1]):,.1f}")
        for rule in rules:
            answer = asked(prometheus, rule["expr"], begin, end)
            longest = max((streak([at for at, _ in series["values"]]) for series in answer), default=-1.0)
            found.append(Evaluated(rule["alert"], seconds_of(rule["for"]), longest))
    return found


def asked(prometheus: Prometheus, expression: str, begin: float, end: float) -> list[dict[str, Any]]:
    """The series of an expression at each evaluation."""
    answer = prometheus.ask("query_range", query=expression, start=begin, end=end, step=EVALUATION_SECONDS)
    series: list[dict[str, Any]] = answer["result"]
    return series


def streak(times: list[float]) -> float:
    """How long the longest run of evaluations without a break is."""
    longest = since = 0.0
    for before, at in pairwise([times[0], *times]):
        since = at if at - before > EVALUATION_SECONDS or before == at else since
        longest = max(longest, at - since)
    return longest


def main() -> int:
    """Exit code 0 if no alert fires."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["record", "evaluate"])
    parser.add_argument("--minutes", type=float, default=24, help="how long to record; 24: a day")
    parser.add_argument("--file", type=Path, default=Path("day.jsonl.gz"), help="the recording")
    arguments = parser.parse_args()
    if arguments.what == "record":
        record(arguments.minutes, arguments.file)
        return 0
    with tempfile.TemporaryDirectory() as place:
        found = evaluate(arguments.file, Path(place))
    for each in found:
        true = "never true" if each.longest < 0 else f"true for {each.longest:.0f} s at most"
        print(f"{'FIRES' if each.fires else 'quiet'}  {each.alert}: for {each.needed:.0f} s; {true}")
    return int(any(each.fires for each in found))


if __name__ == "__main__":
    end_in_order_when_terminated()
    sys.exit(main())
