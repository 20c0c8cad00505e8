"""Time the pipeline: real scripts, a real broker, generated frames of 2 KB, and whether the counts are exact.

    python bench/pipeline.py                                   1,000,000 frames, every client in both shapes, once
    python bench/pipeline.py --runs 5 --peers bytewax,quix-rekeyed --peers-once faust --json FILE --plot FILE.svg
                                                               medians, and other engines in turn with ours
    python bench/pipeline.py --only librdkafka --frames 10000000 -- counter.save_seconds=1

`feed` is filled once. In each run bucketer and counter work through it side by side, with state, groups and topics of
their own, until the counter has reported all. The variants take turns, so that what else the machine does meets all of
them. CPU is that of the processes from the line on with which they say that they read, joining the group included, to
their end. Time is that from the last report but one in which the counter had read nothing to the one with all counts.
Memory is the largest resident size seen.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench/peers")]

import msgspec  # noqa: E402
import plot  # noqa: E402
from peer import Frame  # noqa: E402
from run import PEERS, run_peer  # noqa: E402

from unique_users.local_kafka import LocalKafka, free_port  # noqa: E402
from unique_users.sample import frames  # noqa: E402

SAMPLE_SECONDS = 0.02
PRODUCED_FRAMES_MAX = 300_000  # of the file that each client's producer sends


class Variant(NamedTuple):
    """What is compared: a client, and whether a minute's users go in one record."""

    client: str
    combine: bool

    def __str__(self) -> str:
        return f"{self.client} {'combine' if self.combine else 'one record a frame'}"

    def settings(self) -> list[str]:
        """For `--set`."""
        return [f"client={self.client}", f"bucketer.combine={str(self.combine).lower()}"]


VARIANTS = [Variant(client, combine) for client in ("kafka-python", "librdkafka") for combine in (False, True)]


class Figures(NamedTuple):
    """What one process took. `start_cpu_seconds` went before its work, and is not in `cpu_seconds`."""

    wall_seconds: float
    cpu_seconds: float
    start_cpu_seconds: float
    peak_mb: float


class Watched:
    """A process whose CPU time and memory are sampled while it runs."""

    def __init__(self, command: list[str], stdout: Path, stdin: Any = subprocess.DEVNULL) -> None:
        self._started = time.monotonic()
        self._said = stdout.with_suffix(".err")
        with stdout.open("w") as out, self._said.open("w") as err:
            self.process = subprocess.Popen(command, stdin=stdin, stdout=out, stderr=err)
        self._seen = psutil.Process(self.process.pid)
        self._cpu = self._peak = 0.0
        self._start_cpu: float | None = None

    def sample(self) -> bool:
        """Look at the process; return whether it still runs."""
        try:
            times, memory = self._seen.cpu_times(), self._seen.memory_info()
            self._cpu, self._peak = times.user + times.system, max(self._peak, memory.rss / 1e6)
        except psutil.Error:
            pass
        if self._start_cpu is None and ": reading" in self._said.read_text():
            self._start_cpu = self._cpu
        return self.process.poll() is None

    def figures(self) -> Figures:
        """Wait for the end of the process, which must be a good one."""
        while self.sample():
            time.sleep(SAMPLE_SECONDS)
        if self.process.returncode:
            sys.exit(f"{self.process.args} ended with {self.process.returncode}: {self._said.read_text()}")
        start = self._start_cpu or 0.0
        return Figures(time.monotonic() - self._started, self._cpu - start, start, self._peak)


class Bench:
    """A broker whose `feed` holds generated frames, and the scripts on it."""

    def __init__(self, kafka: LocalKafka, scratch: Path, frames: int, settings: Iterable[str]) -> None:
        self._kafka = kafka
        self._scratch = scratch
        self._frames = frames
        self._settings = list(settings)
        self._number = 0
        self.expected: dict[int, int] = {}

    def fill(self) -> None:
        """Generate the frames into `feed`, by way of no file."""
        counts = self._scratch / "expected.json"
        generate = [sys.executable, str(ROOT / "bench/generate.py"), str(self._frames), str(counts)]
        with subprocess.Popen(generate, stdout=subprocess.PIPE) as generator:
            command = self._script("producer.py", ["client=librdkafka"], "-")
            Watched(command, self._scratch / "filled", generator.stdout).figures()
        self.expected = {int(start): count for start, count in json.loads(counts.read_text()).items()}

    def produce(self, client: str) -> dict[str, Any]:
        """Time the producer on a file."""
        frames = min(self._frames, PRODUCED_FRAMES_MAX)
        file = self._scratch / "stream.gz"
        if not file.exists():
            generate = [sys.executable, str(ROOT / "bench/generate.py"), str(frames), os.devnull]
            with subprocess.Popen(generate, stdout=subprocess.PIPE) as generator, file.open("wb") as out:
                subprocess.run(
                    [sys.executable, "-m", "gzip", "--fast", "-"], stdin=generator.stdout, stdout=out, check=True
                )
        self._number += 1
        settings = [f"client={client}", f"topics.feed.name=produced{self._number}"]
        figures = Watched(self._script("producer.py", settings, str(file)), self._scratch / "produced").figures()
        return {"client": client, "frames": frames, **figures._asdict()}

    def run(self, variant: Variant) -> dict[str, Any]:
        """Bucketer and counter side by side, from the start of `feed` to the last count."""
        self._number += 1
        place = self._scratch / str(self._number)
        place.mkdir()
        own = [f"state.directory={place / 'state'}", "counter.report_seconds=0.2", *variant.settings()]
        own += [f"{name}.group={name}{self._number}" for name in ("bucketer", "counter")]
        own += [f"topics.{name}.name={name}{self._number}" for name in ("bucketed", "counts", "rejected")]
        broker = psutil.Process(self._kafka.pid)
        before = sum(broker.cpu_times()[:2])
        counter = Watched(self._script("counter.py", own, "--format", "json"), place / "counter")
        bucketer = Watched(self._script("bucketer.py", own, "--until-caught-up"), place / "bucketer")
        try:
            counted, seconds = self._counted(counter, bucketer, place / "counter")
        except BaseException:
            counter.process.kill()
            bucketer.process.kill()
            raise
        broker_cpu = sum(broker.cpu_times()[:2]) - before
        bucketed = bucketer.figures()
        counter.process.terminate()
        figures = counter.figures()
        shutil.rmtree(place)
        return {
            "variant": str(variant),
            "frames": self._frames,
            "exact": counted == self.expected,
            "seconds": seconds,
            "broker_cpu_seconds": broker_cpu,
            "bucketer": bucketed._asdict(),
            "counter": figures._asdict(),
        }

    def run_peer(self, name: str) -> dict[str, Any]:
        """Another engine on the same topic."""
        return dict(run_peer(name, self._kafka.bootstrap_servers, "feed", self._frames, self.expected))

    def _counted(self, counter: Watched, bucketer: Watched, reports: Path) -> tuple[dict[int, int], float]:
        """What the counter has reported, once it is as much as expected, and in how many seconds."""
        counted: dict[int, int] = {}
        idle = [time.monotonic()] * 2
        rest = ""  # of a line that is being written
        with reports.open() as file:
            while sum(counted.values()) < sum(self.expected.values()):
                if not counter.sample():
                    sys.exit("the counter ended")
                if not bucketer.sample() and bucketer.process.returncode:
                    bucketer.figures()
                *lines, rest = (rest + file.read()).split("\n")
                for line in lines:
                    report = json.loads(line)
                    if "start" in report:
                        counted[start_of(report["start"])] = report["unique_users"]
                    elif not counted:
                        idle = [idle[-1], time.monotonic()]
                time.sleep(SAMPLE_SECONDS)
        return counted, time.monotonic() - idle[0]

    def _script(self, name: str, settings: Iterable[str], *arguments: str) -> list[str]:
        flags = [f"kafka.bootstrap_servers={self._kafka.bootstrap_servers}", *settings, *self._settings]
        sets = [part for flag in flags for part in ("--set", flag)]
        return [sys.executable, str(ROOT / name), *arguments, "--config", str(ROOT / "config.yaml"), *sets]


def start_of(text: str) -> int:
    """Epoch seconds of a report's time."""
    return int(datetime.fromisoformat(text).timestamp())


@contextmanager
def bench(frames: int, settings: Iterable[str]) -> Iterator[Bench]:
    """A filled Bench on a broker of its own, gone afterwards: a million frames are half a gigabyte."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        scratch = Path(directory)
        with LocalKafka("4.3.1", scratch / "kafka", free_port()) as kafka:
            made = Bench(kafka, scratch, frames, settings)
            made.fill()
            yield made


def main() -> None:
    """Print a table; `--json FILE` keeps the raw figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", default="", help="variants whose name has this in it")
    parser.add_argument("--peers", default="", help=f"with commas between: {', '.join(PEERS)}")
    parser.add_argument("--peers-once", default="", help="those too slow to take part in more than the first run")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="of the medians, as SVG")
    parser.add_argument("settings", nargs="*", metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args()
    variants = [variant for variant in VARIANTS if arguments.only in str(variant)]
    results: dict[str, Any] = {"cores": os.cpu_count(), "python": sys.version.split()[0]}
    results |= {"decode_us": [], "pipeline": [], "producer": [], "peers": []}
    with bench(arguments.frames, arguments.settings) as ready:
        for number in range(arguments.runs):
            results["decode_us"].append(decode_us())
            for client in dict.fromkeys(variant.client for variant in variants):
                results["producer"].append(ready.produce(client))
            for variant in variants:
                results["pipeline"].append(ready.run(variant))
                print(f"run {number + 1}: {summary(results['pipeline'][-1])}", file=sys.stderr, flush=True)
            once = arguments.peers_once if number == 0 else ""
            for name in filter(None, f"{arguments.peers},{once}".split(",")):
                results["peers"].append(ready.run_peer(name))
                print(f"run {number + 1}: {results['peers'][-1]}", file=sys.stderr, flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(results, indent=1))
    print(f"msgspec decodes a frame in {statistics.median(results['decode_us']):.1f} µs here\n")
    print(table(results))
    if arguments.plot:
        arguments.plot.write_text(plot.bars(costs(results), "CPU of one frame, µs (bucketer and counter together)"))


def decode_us() -> float:
    """What msgspec takes to decode uid and ts of one of these frames here and now: how fast the machine is."""
    samples = list(frames(20_000))
    decode = msgspec.json.Decoder(Frame).decode
    started = time.process_time()
    for sample in samples:
        decode(sample)
    return (time.process_time() - started) / len(samples) * 1e6


def costs(results: Mapping[str, Any]) -> dict[str, float]:
    """The median CPU of a frame in µs, ours and the peers'."""
    found: dict[str, list[float]] = {}
    for each in results["pipeline"]:
        found.setdefault(each["variant"], []).append(cpu(each))
    for each in results["peers"]:
        found.setdefault(each["peer"], []).append(each["cpu_us_per_frame"])
    return {name: statistics.median(values) for name, values in found.items()}


def summary(result: Mapping[str, Any]) -> str:
    """One run in a line."""
    exact = "exact" if result["exact"] else "WRONG"
    rate = result["frames"] / result["seconds"]
    return f"{result['variant']}: {cpu(result):.1f} µs/frame, {rate:,.0f} frames/s, {exact}"


def cpu(result: Mapping[str, Any], *scripts: str) -> float:
    """CPU of these scripts, or of bucketer and counter together, in µs for each frame."""
    return float(
        sum(result[name]["cpu_seconds"] for name in scripts or ("bucketer", "counter")) / result["frames"] * 1e6
    )


def table(results: Mapping[str, Any]) -> str:
    """The medians, in Markdown."""
    lines = [
        "| variant | runs | frames/s | CPU µs/frame | bucketer | counter | broker | peak MB | exact |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(each["variant"] for each in results["pipeline"]):
        runs = [each for each in results["pipeline"] if each["variant"] == name]
        rate = statistics.median(each["frames"] / each["seconds"] for each in runs)
        costs = [
            statistics.median(cpu(each, *scripts) for each in runs) for scripts in ((), ("bucketer",), ("counter",))
        ]
        broker = statistics.median(each["broker_cpu_seconds"] / each["frames"] * 1e6 for each in runs)
        peaks = (max(each[script]["peak_mb"] for each in runs) for script in ("bucketer", "counter"))
        exact = "yes" if all(each["exact"] for each in runs) else "NO"
        lines.append(
            f"| {name} | {len(runs)} | {rate:,.0f} | {costs[0]:.1f} | {costs[1]:.1f} | {costs[2]:.1f} | {broker:.1f}"
            f" | {' + '.join(f'{peak:.0f}' for peak in peaks)} | {exact} |"
        )
    for client in dict.fromkeys(each["client"] for each in results["producer"]):
        runs = [each for each in results["producer"] if each["client"] == client]
        rate = statistics.median(each["frames"] / each["wall_seconds"] for each in runs)
        cost = statistics.median(each["cpu_seconds"] / each["frames"] * 1e6 for each in runs)
        peak = max(each["peak_mb"] for each in runs)
        lines.append(f"| producer.py, {client} | {len(runs)} | {rate:,.0f} | {cost:.1f} | | | | {peak:.0f} | |")
    for name in dict.fromkeys(each["peer"] for each in results["peers"]):
        runs = [each for each in results["peers"] if each["peer"] == name]
        rate, cost = (
            statistics.median(each[what] for each in runs) for what in ("frames_per_second", "cpu_us_per_frame")
        )
        exact = "yes" if all(each["exact"] for each in runs) else "NO"
        lines.append(f"| {name} | {len(runs)} | {rate:,.0f} | {cost:.1f} | | | | | {exact} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
