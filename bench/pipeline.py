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
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
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
from pipeline_tables import costs, scraped, spread, summary, table  # noqa: E402
from registry import PEERS  # noqa: E402
from run import run_peer  # noqa: E402
from topics import end  # noqa: E402
from watched import SAMPLE_SECONDS, Figures, Reports, Watched  # noqa: E402

from unique_users.config.load import load_config  # noqa: E402
from unique_users.demo.sample import frames  # noqa: E402
from unique_users.event_time.buckets import Bucket  # noqa: E402
from unique_users.local_kafka.broker import LocalKafka, free_port  # noqa: E402

SCRAPE_SECONDS = 2.0
PRODUCED_FRAMES_MAX = 300_000  # of the file that each client's producer sends


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


class Bench:
    """A broker whose `feed` holds generated frames, and the scripts on it."""

    def __init__(
        self,
        kafka: LocalKafka,
        scratch: Path,
        frames: int,
        users: int,
        settings: Iterable[str],
        *,
        uneven: bool = False,
    ) -> None:
        self._uneven = uneven
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
        generate += ["--uneven"] if self._uneven else []
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
        scrapes = Scrapes()
        broker = psutil.Process(self._kafka.pid)
        broker_cpu = -sum(broker.cpu_times()[:2])
        launched_at = time.time()
        counters = [
            Watched(
                self._script(
                    variant.root / "counter.py",
                    [*own, f"state.directory={place / f'state{n}'}", *scrapes.settings(on=variant.metrics)],
                    "--format",
                    "json",
                ),
                place / f"counter{n}",
            )
            for n in numbers
        ]
        bucketers: list[Watched] = []
        reports = [Reports(place / f"counter{n}") for n in numbers]

        def launch_bucketers() -> None:
            script = variant.root / "bucketer.py"
            for n in numbers:
                settings = [*own, *scrapes.settings(on=variant.metrics)]
                bucketers.append(Watched(self._script(script, settings, "--until-caught-up"), place / f"bucketer{n}"))

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
        finally:
            scrapes.close()
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
            "rejected": end(self._kafka.bootstrap_servers, f"rejected{self._number}"),
            "exact": bool(expected) and together(reports) == expected,
            "seconds": seconds,
            "launch_seconds": ended_at - launched_at,
            "broker_cpu_seconds": broker_cpu,
            "scrape_seconds": scrapes.seconds,
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


class Scrapes:
    """Scrapes the metrics of processes every two seconds, and notes how long each scrape takes.

    Like Prometheus, it keeps its connections open.
    """

    def __init__(self) -> None:
        self._targets: list[HTTPConnection] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seconds: list[float] = []

    def settings(self, *, on: bool) -> list[str]:
        """What makes one more process serve its metrics."""
        if not on:
            return []
        port = free_port()
        self._targets.append(HTTPConnection("127.0.0.1", port, timeout=10))
        if len(self._targets) == 1:
            self._thread.start()
        return [f"metrics.port={port}"]

    def close(self) -> None:
        """Scrape no more."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(SCRAPE_SECONDS):
            for target in list(self._targets):
                began = time.perf_counter()
                try:
                    target.request("GET", "/metrics")
                    target.getresponse().read()
                except (OSError, HTTPException):
                    target.close()  # the process has not begun yet, or has ended; the next request connects again
                else:
                    self.seconds.append(time.perf_counter() - began)


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


@contextmanager
def bench(
    frames: int, settings: Iterable[str], partitions: Iterable[int] = (1,), users: int = USERS, *, uneven: bool = False
) -> Iterator[Bench]:
    """A filled Bench on a broker of its own, gone afterwards: a million frames are half a gigabyte.

    With `uneven` some frames are hours late and some lines are invalid, see late_and_bad.py.

    A group's first members are waited for, so that none begins with what another one takes over a moment later.
    """
    joining = {"group.initial.rebalance.delay.ms": "1000"} if set(partitions) != {1} else {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        scratch = Path(directory)
        with LocalKafka("4.3.1", scratch / "kafka", free_port(), properties=joining) as kafka:
            made = Bench(kafka, scratch, frames, users, settings, uneven=uneven)
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
    parser.add_argument("--metrics", action="store_true", help="each variant with metrics, too, scraped every 2 s")
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
        variant._replace(partitions=partitions, processes=processes, counted=counted, metrics=metrics, root=root)
        for variant in VARIANTS
        if arguments.only in str(variant)
        for counted in (COUNTED if arguments.intervals else [""])
        for partitions, processes in [(1, 1), *((number, arguments.processes or number) for number in numbers)]
        for metrics in ([False, True] if arguments.metrics else [False])
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
    if arguments.metrics:
        print(f"\n{scraped(results)}")
    if arguments.plot:
        arguments.plot.write_text(
            plot.bars(costs(results, ROOT.name), "CPU of one frame, µs (bucketer and counter together)")
        )


def decode_us() -> float:
    """What msgspec takes to decode uid and ts of one of these frames here and now: how fast the machine is."""
    samples = list(frames(20_000))
    decode = msgspec.json.Decoder(Frame).decode
    started = time.process_time()
    for sample in samples:
        decode(sample)
    return (time.process_time() - started) / len(samples) * 1e6


if __name__ == "__main__":
    main()
