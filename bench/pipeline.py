"""Time the pipeline: real scripts, a real broker, generated frames of 2 KB, and whether the counts are exact.

    python bench/pipeline.py                                   1,000,000 frames, every client in both shapes, once
    python bench/pipeline.py --runs 5 --peers bytewax,quix-rekeyed --peers-once faust --json FILE --plot FILE.svg
                                                               medians, and other engines in turn with ours
    python bench/pipeline.py --only librdkafka --frames 10000000 -- counter.save_seconds=1
    python bench/pipeline.py --runs 5 --only "one record" --intervals --users 10000000
                                                               minute alone, all intervals, and some of these estimated
                                                               in turn; with so many users most frames bring a new one
    python bench/pipeline.py --runs 5 --against ../before      these scripts, and in turn those of another checkout
    python bench/pipeline.py --runs 5 --partitions 2           one partition and two in turn, with partition_by: uid,
                                                               and as many bucketers and counters as partitions

`feed` is filled once for each number of partitions, with so many frames for each of them, and as many users for each.
In each run bucketers and counters work through it side by side, with state, groups and topics of their own, until the
counters have reported all. The variants take turns, so that what else the machine does meets all of them.

Each engine is measured in two ways. The work: CPU of the bucketers from the line on with which they say that they read,
and of the counters from when they have all partitions, to their ends; and the time from the first record of `bucketed`,
which is written a few milliseconds after its frame was read, to the report with all counts. As a user sees it: the time
from the launch of all processes to the report with all counts, and all CPU of these processes, their start and end
included. Several counters have to share the partitions before the bucketers are launched. Memory is the largest
resident size seen.
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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from kafka import KafkaConsumer, TopicPartition

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench/peers")]

import msgspec  # noqa: E402
import plot  # noqa: E402
from generate import USERS  # noqa: E402
from peer import Frame  # noqa: E402
from run import PEERS, run_peer  # noqa: E402

from unique_users.config.load import load_config  # noqa: E402
from unique_users.demo.sample import frames  # noqa: E402
from unique_users.event_time.buckets import Bucket  # noqa: E402
from unique_users.local_kafka.broker import LocalKafka, free_port  # noqa: E402

SAMPLE_SECONDS = 0.02
# Compiled modules are kept, as they are for whoever has not forbidden it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
CPU_PARTS = ("start_cpu_seconds", "cpu_seconds")
PRODUCED_FRAMES_MAX = 300_000  # of the file that each client's producer sends


class Variant(NamedTuple):
    """What is compared: a client, whether a minute's users go in one record, and over how much the work is spread."""

    client: str
    combine: bool
    partitions: int = 1  # of feed and of bucketed
    processes: int = 1  # bucketers, and as many counters
    counted: str = ""  # one of COUNTED, or what the settings say
    root: Path = ROOT  # whose scripts these are: another checkout's, to compare with

    def __str__(self) -> str:
        form = f"{self.client} {'combine' if self.combine else 'one record a frame'}"
        form += f", {self.partitions} partitions, {self.processes} of each" if self.partitions > 1 else ""
        form += f", {self.counted}" if self.counted else ""
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


class Figures(NamedTuple):
    """What a process took, or some together. `start_cpu_seconds` went before the work, and is not in `cpu_seconds`."""

    wall_seconds: float
    cpu_seconds: float
    start_cpu_seconds: float
    peak_mb: float

    @classmethod
    def together(cls, parts: Sequence["Figures"]) -> "Figures":
        """The longest time, and the sums of the rest: peaks of memory may have come at different moments."""
        walls, cpus, start_cpus, peaks = zip(*parts, strict=True)
        return cls(max(walls), sum(cpus), sum(start_cpus), sum(peaks))


class Watched:
    """A process whose CPU time and memory are sampled while it runs."""

    def __init__(self, command: list[str], stdout: Path, stdin: Any = subprocess.DEVNULL) -> None:
        self._started = time.monotonic()
        self._said = stdout.with_suffix(".err")
        with stdout.open("w") as out, self._said.open("w") as err:
            self.process = subprocess.Popen(command, stdin=stdin, stdout=out, stderr=err, env=ENVIRONMENT)
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

    def begins(self) -> None:
        """What it has used until now was not for its work."""
        self.sample()
        self._start_cpu = self._cpu

    def figures(self) -> Figures:
        """Wait for the end of the process, which must be a good one."""
        while self.sample():
            time.sleep(SAMPLE_SECONDS)
        if self.process.returncode:
            sys.exit(f"{self.process.args!r} ended with {self.process.returncode}: {self._said.read_text()}")
        start = self._start_cpu or 0.0
        return Figures(time.monotonic() - self._started, self._cpu - start, start, self._peak)


class Reports:
    """What one counter reports, as JSON lines in a file that grows."""

    def __init__(self, file: Path) -> None:
        self._file = file.open()
        self._rest = ""  # of a line that is being written
        self.counted: dict[Bucket, int] = {}
        self.partitions: list[int] = []

    def read(self) -> None:
        """Take in what was written since."""
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        for line in lines:
            report = json.loads(line)
            if "start" in report:
                self.counted[Bucket(report["interval"], start_of(report["start"]))] = report["unique_users"]
                continue
            self.partitions = report["partitions"]

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class Bench:
    """A broker whose `feed` holds generated frames, and the scripts on it."""

    def __init__(self, kafka: LocalKafka, scratch: Path, frames: int, users: int, settings: Iterable[str]) -> None:
        self._kafka = kafka
        self._scratch = scratch
        self._frames = frames
        self._users = users
        self._settings = list(settings)
        self._number = 0
        self._true: dict[int, dict[str, Any]] = {}  # by the number of partitions; see generate.py

    def fill(self, partitions: int) -> None:
        """Generate the frames into a topic, by way of no file: for two partitions twice the frames and users."""
        counts = self._scratch / "expected.json"
        amounts = [self._frames * partitions, counts, self._users * partitions]
        generate = [sys.executable, str(ROOT / "bench/generate.py"), *map(str, amounts)]
        with subprocess.Popen(generate, stdout=subprocess.PIPE) as generator:
            settings = ["client=librdkafka", f"topics.feed.name={feed(partitions)}"]
            command = self._script(ROOT / "producer.py", [*settings, f"topics.feed.partitions={partitions}"], "-")
            Watched(command, self._scratch / "filled", generator.stdout).figures()
        self._true[partitions] = json.loads(counts.read_text())

    def _expected(self, variant: Variant) -> dict[Bucket, int]:
        """What is to be counted."""
        config = load_config(str(ROOT / "config.yaml"), [*variant.settings(), *self._settings]).counter
        true = self._true[variant.partitions]
        return {
            Bucket(interval, int(start)): count
            for interval in config.intervals
            for start, count in (true["estimates"] if interval in config.estimates else true)[interval].items()
        }

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
        figures = Watched(self._script(ROOT / "producer.py", settings, str(file)), self._scratch / "produced").figures()
        return {"client": client, "frames": frames, **figures._asdict()}

    def run(self, variant: Variant) -> dict[str, Any]:
        """Bucketers and counters side by side, from the start of `feed` to the last count."""
        self._number += 1
        place = self._scratch / str(self._number)
        place.mkdir()
        own = ["counter.report_seconds=0.05", *variant.settings()]
        own += [f"{name}.group={name}{self._number}" for name in ("bucketer", "counter")]
        own += [f"topics.{name}.name={name}{self._number}" for name in ("bucketed", "counts", "rejected")]
        numbers = range(variant.processes)
        broker = psutil.Process(self._kafka.pid)
        broker_cpu = -sum(broker.cpu_times()[:2])
        launched_at = time.time()
        counters = [
            Watched(
                self._script(
                    variant.root / "counter.py", [*own, f"state.directory={place / f'state{n}'}"], "--format", "json"
                ),
                place / f"counter{n}",
            )
            for n in numbers
        ]
        bucketers: list[Watched] = []
        reports = [Reports(place / f"counter{n}") for n in numbers]

        def launch_bucketers() -> None:
            script = variant.root / "bucketer.py"
            command = self._script(script, own, "--until-caught-up")
            bucketers.extend(Watched(command, place / f"bucketer{n}") for n in numbers)

        try:
            if variant.processes == 1:
                launch_bucketers()
            # What a counter has counted of a partition that it has lost would be counted twice.
            self._until(lambda: shared(reports, variant.partitions), [*counters, *bucketers], reports)
            for each in counters:
                each.begins()
            if not bucketers:
                launch_bucketers()
            expected = self._expected(variant)
            wanted = sum(expected.values())
            watched = [*counters, *bucketers]
            self._until(lambda: sum(sum(each.counted.values()) for each in reports) >= wanted, watched, reports)
            ended_at = time.time()
        except BaseException:
            for each in (*counters, *bucketers):
                each.process.kill()
            raise
        broker_cpu += sum(broker.cpu_times()[:2])
        bucketed = Figures.together([each.figures() for each in bucketers])
        for each in counters:
            each.process.terminate()
        figures = Figures.together([each.figures() for each in counters])
        for report in reports:
            report.read()  # the lines that followed those that were waited for
            report.close()
        shutil.rmtree(place)
        seconds = ended_at - first_written_at(self._kafka.bootstrap_servers, f"bucketed{self._number}")
        return {
            "variant": str(variant),
            **variant._asdict(),
            "root": variant.root.name,
            "frames": self._frames * variant.partitions,
            "exact": bool(expected) and together(reports) == expected,
            "seconds": seconds,
            "launch_seconds": ended_at - launched_at,
            "broker_cpu_seconds": broker_cpu,
            "bucketer": bucketed._asdict(),
            "counter": figures._asdict(),
        }

    def run_peer(self, name: str) -> dict[str, Any]:
        """Another engine on the same topic."""
        minutes = {int(start): count for start, count in self._true[1]["minute"].items()}
        return dict(run_peer(name, self._kafka.bootstrap_servers, "feed", self._frames, minutes))

    @staticmethod
    def _until(reached: Callable[[], bool], watched: Sequence[Watched], reports: Sequence[Reports]) -> None:
        """Read reports until what is wanted is there; ends the bench when a process has failed."""
        while not reached():
            for each in watched:
                if not each.sample() and each.process.returncode:
                    each.figures()
            for report in reports:
                report.read()
            time.sleep(SAMPLE_SECONDS)

    def _script(self, script: Path, settings: Iterable[str], *arguments: str) -> list[str]:
        flags = [f"kafka.bootstrap_servers={self._kafka.bootstrap_servers}", *settings, *self._settings]
        sets = [part for flag in flags for part in ("--set", flag)]
        return [sys.executable, str(script), *arguments, "--config", str(script.with_name("config.yaml")), *sets]


def first_written_at(servers: str, topic: str) -> float:
    """Epoch seconds of the first record of a topic."""
    consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False)
    partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
    first = consumer.offsets_for_times(dict.fromkeys(partitions, 0))
    consumer.close()
    return float(min(found.timestamp for found in first.values() if found) / 1000)


def shared(reports: Sequence[Reports], partitions: int) -> bool:
    """Whether each counter has its part of the partitions, and all of them are given out."""
    given_out = sorted(partition for each in reports for partition in each.partitions)
    return given_out == list(range(partitions)) and all(each.partitions for each in reports)


def together(reports: Sequence[Reports]) -> dict[Bucket, int]:
    """The counts over all partitions."""
    counted: Counter[Bucket] = Counter()
    for each in reports:
        counted.update(each.counted)
    return dict(counted)


def start_of(text: str) -> int:
    """Epoch seconds of a report's time."""
    return int(datetime.fromisoformat(text).timestamp())


@contextmanager
def bench(
    frames: int, settings: Iterable[str], partitions: Iterable[int] = (1,), users: int = USERS
) -> Iterator[Bench]:
    """A filled Bench on a broker of its own, gone afterwards: a million frames are half a gigabyte.

    A group's first members are waited for, so that none begins with what another one takes over a moment later.
    """
    joining = {"group.initial.rebalance.delay.ms": "1000"} if set(partitions) != {1} else {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        scratch = Path(directory)
        with LocalKafka("4.3.1", scratch / "kafka", free_port(), properties=joining) as kafka:
            made = Bench(kafka, scratch, frames, users, settings)
            for each in partitions:
                made.fill(each)
            yield made


def main() -> None:
    """Print a table; `--json FILE` keeps the raw figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000, help="for each partition")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", default="", help="variants whose name has this in it")
    parser.add_argument("--partitions", default="", help="spread over so many as well; several with commas between")
    parser.add_argument("--users", type=int, default=USERS, help="for each partition")
    parser.add_argument("--intervals", action="store_true", help="each variant with other intervals as well")
    parser.add_argument("--processes", type=int, help="bucketers, and counters: as many as partitions, or so many")
    parser.add_argument("--against", type=Path, help="another checkout, whose scripts run in turn with these")
    parser.add_argument("--peers", default="", help=f"with commas between: {', '.join(PEERS)}")
    parser.add_argument("--peers-once", default="", help="those too slow to take part in more than the first run")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="of the medians, as SVG")
    parser.add_argument("settings", nargs="*", metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args()
    numbers = [int(number) for number in filter(None, arguments.partitions.split(","))]
    variants = [
        variant._replace(partitions=partitions, processes=processes, counted=counted, root=root)
        for variant in VARIANTS
        if arguments.only in str(variant)
        for counted in (COUNTED if arguments.intervals else [""])
        for partitions, processes in [(1, 1), *((number, arguments.processes or number) for number in numbers)]
        for root in (ROOT, *filter(None, [arguments.against and arguments.against.resolve()]))
    ]
    results: dict[str, Any] = {"cores": os.cpu_count(), "python": sys.version.split()[0]}
    results |= {"decode_us": [], "pipeline": [], "producer": [], "peers": []}
    with bench(arguments.frames, arguments.settings, [1, *numbers], arguments.users) as ready:
        for number in range(arguments.runs):
            results["decode_us"].append(decode_us())
            for client in dict.fromkeys(variant.client for variant in variants if not numbers and not variant.counted):
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
    if numbers:
        print(f"\n{spread(results)}")
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
        if each["root"] == ROOT.name:
            found.setdefault(each["variant"], []).append(cpu(each))
    for each in results["peers"]:
        found.setdefault(each["peer"], []).append(each["cpu_us_per_frame"])
    return {name: statistics.median(values) for name, values in found.items()}


def summary(result: Mapping[str, Any]) -> str:
    """One run in a line."""
    exact = "exact" if result["exact"] else "WRONG"
    rate = result["frames"] / result["seconds"]
    launch = f"{result['launch_seconds']:.1f} s from launch to counts"
    return f"{result['variant']}: {cpu(result):.1f} µs/frame, {rate:,.0f} frames/s, {launch}, {exact}"


def cpu(result: Mapping[str, Any], *scripts: str) -> float:
    """CPU of these scripts, or of bucketer and counter together, in µs for each frame."""
    return float(
        sum(result[name]["cpu_seconds"] for name in scripts or ("bucketer", "counter")) / result["frames"] * 1e6
    )


def whole_cpu_seconds(result: Mapping[str, Any]) -> float:
    """CPU of bucketer and counter together, from their launch to their ends."""
    return float(sum(result[name][part] for name in ("bucketer", "counter") for part in CPU_PARTS))


def spread(results: Mapping[str, Any]) -> str:
    """What a frame costs over several partitions and processes beside what it costs one of each, in Markdown."""
    lines = ["| variant | bucketers µs/frame | of one's | counters µs/frame | of one's |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(each["variant"] for each in results["pipeline"]):
        runs = [each for each in results["pipeline"] if each["variant"] == name]
        alone = [each for each in results["pipeline"] if each["partitions"] == 1 and name.startswith(each["variant"])]
        cells = []
        for script in ("bucketer", "counter"):
            us, us_alone = (statistics.median(cpu(each, script) for each in some) for some in (runs, alone))
            cells += [f"{us:.2f}", f"{us / us_alone:.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def table(results: Mapping[str, Any]) -> str:
    """The medians, in Markdown."""
    lines = [
        "| variant | runs | frames/s | CPU µs/frame | bucketer | counter | broker | launch s | whole CPU s | MB | |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(each["variant"] for each in results["pipeline"]):
        runs = [each for each in results["pipeline"] if each["variant"] == name]
        rate = statistics.median(each["frames"] / each["seconds"] for each in runs)
        costs = [
            statistics.median(cpu(each, *scripts) for each in runs) for scripts in ((), ("bucketer",), ("counter",))
        ]
        broker = statistics.median(each["broker_cpu_seconds"] / each["frames"] * 1e6 for each in runs)
        wall = statistics.median(each["launch_seconds"] for each in runs)
        whole = statistics.median(whole_cpu_seconds(each) for each in runs)
        peaks = (max(each[script]["peak_mb"] for each in runs) for script in ("bucketer", "counter"))
        exact = "yes" if all(each["exact"] for each in runs) else "NO"
        lines.append(
            f"| {name} | {len(runs)} | {rate:,.0f} | {costs[0]:.1f} | {costs[1]:.1f} | {costs[2]:.1f} | {broker:.1f}"
            f" | {wall:.1f} | {whole:.1f} | {' + '.join(f'{peak:.0f}' for peak in peaks)} | {exact} |"
        )
    for client in dict.fromkeys(each["client"] for each in results["producer"]):
        runs = [each for each in results["producer"] if each["client"] == client]
        rate = statistics.median(each["frames"] / each["wall_seconds"] for each in runs)
        cost = statistics.median(each["cpu_seconds"] / each["frames"] * 1e6 for each in runs)
        peak = max(each["peak_mb"] for each in runs)
        lines.append(f"| producer.py, {client} | {len(runs)} | {rate:,.0f} | {cost:.1f} | | | | | | {peak:.0f} | |")
    for name in dict.fromkeys(each["peer"] for each in results["peers"]):
        runs = [each for each in results["peers"] if each["peer"] == name]
        rate, cost = (
            statistics.median(each[what] for each in runs) for what in ("frames_per_second", "cpu_us_per_frame")
        )
        wall, whole = (statistics.median(each[what] for each in runs) for what in ("launch_seconds", "all_cpu_seconds"))
        peak = max(each["peak_mb"] for each in runs)
        exact = "yes" if all(each["exact"] for each in runs) else "NO"
        lines.append(
            f"| {name} | {len(runs)} | {rate:,.0f} | {cost:.1f} | | | | {wall:.1f} | {whole:.1f} | {peak:.0f}"
            f" | {exact} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
