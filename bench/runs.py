"""A broker that is full of frames, and runs of the scripts and of other engines through them."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from generate import USERS
from kafka import KafkaConsumer, TopicPartition
from run import run_peer
from scrapes import Scrapes
from topics import end
from variants import ROOT, Variant, feed
from watched import SAMPLE_SECONDS, Figures, Reports, Watched

from unique_users.config.load import load_config
from unique_users.event_time.buckets import Bucket
from unique_users.local_kafka.broker import LocalKafka, free_port

SCRAPE_SECONDS = 2.0
PRODUCED_FRAMES_MAX = 300_000  # of the file that each client's producer sends


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
        scrapes = Scrapes(SCRAPE_SECONDS)
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

    def commands(self, variant: Variant) -> dict[str, list[str]]:
        """A bucketer that works through `feed`, and a counter for what that has written; both end by themselves."""
        self._number += 1
        own = [*variant.settings(), f"state.directory={self._scratch / f'state{self._number}'}"]
        own += [f"{name}.group={name}{self._number}" for name in ("bucketer", "counter")]
        own += [f"topics.{name}.name={name}{self._number}" for name in ("bucketed", "counts", "rejected")]
        names = ("bucketer", "counter")
        return {name: self._script(variant.root / f"{name}.py", own, "--until-caught-up") for name in names}

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
