"""Row 27: counters are updated one by one, as a StatefulSet of Kubernetes does it."""

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from harness import Run, row
from kafka.admin import MemberToRemove
from live import live
from patience import until
from pauses import Disturbance
from system import System
from topics_on_broker import Record
from worker import Worker

from unique_users.local_kafka.broker import free_port

RATE = 400
PARTITIONS = 3
PROBE_SECONDS = 2.0  # as in deploy/kubernetes/base/counter.yaml
LOOK_SECONDS = 0.2
SETTINGS: dict[str, Any] = {
    "topics": {name: {"partitions": PARTITIONS} for name in ("feed", "bucketed")},
    "kafka": {"session_timeout_ms": 120_000, "heartbeat_interval_ms": 1_000},
    "bucketer": {"partition_by": "uid", "commit_seconds": 1},
    "counter": {"estimates": [], "save_seconds": 5, "publish_seconds": 1, "intervals": ["minute"]},
}


@row(27, "rolling update of counters with static membership")
def rolling_update(run: Run) -> None:
    """Every count is exact, and the other counters do not pause."""
    replicas = run.scale(2, 3)
    with run.system(SETTINGS, behind=False) as system:
        system.make_topics()
        pods = StatefulSet(run, system, replicas)
        with live(run, system, RATE) as frames:
            system.start_bucketer()
            pods.start()
            system.until(lambda: system.written(system.config.topics.counts.name) > 0, "a first count")
            with lag_looked_at(run, system):
                for _ in range(run.scale(1, 3)):
                    run.pause(3, 5)
                    pods.update()
                run.pause(3, 5)
        system.until_caught_up()
        run.end_all(system)
        pods.leave()
        published = system.read(system.config.topics.counts.name)
        run.verify(system, frames, states=[pods.state(ordinal) for ordinal in range(replicas)])
    for update in pods.updates:
        updated, others, *_ = sorted(pauses(published, update), reverse=True)
        run.measure("seconds in which counts of the updated counter stood still", updated)
        if replicas == PARTITIONS:  # each counter has one
            run.measure("seconds in which those of the others did", others)


def pauses(published: Sequence[Record], update: Disturbance) -> list[float]:
    """The longest time in which nothing was published, of each partition of bucketed, that began during an update."""
    found = []
    for _, records in itertools.groupby(sorted(published, key=_partition), key=_partition):
        times = sorted(record.timestamp_ms / 1000 for record in records)
        gaps = [after - at for at, after in itertools.pairwise(times) if update.begin <= at < update.end]
        found.append(max(gaps, default=0.0))
    return found


def _partition(record: Record) -> bytes:
    return (record.key or b"").rpartition(b":")[2]


class StatefulSet:
    """Counters with an ordinal, and a state and a name in the group that belong to it."""

    def __init__(self, run: Run, system: System, replicas: int) -> None:
        self._run = run
        self._system = system
        self._ports = {ordinal: free_port() for ordinal in range(replicas)}
        self._pods: dict[int, Worker] = {}
        self.updates: list[Disturbance] = []

    def state(self, ordinal: int) -> Path:
        return self._system.directory / f"state-{ordinal}"

    def start(self) -> None:
        for ordinal in self._ports:
            self._start(ordinal)
        for ordinal in self._ports:
            self._until_ready(ordinal)

    def update(self) -> None:
        """From the highest ordinal down: end one, start it anew, wait until it is ready, then the next one."""
        for ordinal in sorted(self._ports, reverse=True):
            begin = time.time()
            self._run.inject()
            pod = self._pods[ordinal]
            seconds = pod.end()
            self._run.expect_end(pod, seconds)
            self._start(ordinal)
            self._until_ready(ordinal)
            self._run.measure("seconds to end", seconds)
            self._run.measure("seconds from the end to ready", time.time() - begin - seconds)
            self.updates.append(Disturbance("an update", begin, time.time()))

    def leave(self) -> None:
        """Let the group forget its members, which have ended, now instead of after their session."""
        members = [MemberToRemove(group_instance_id=self._name(ordinal)) for ordinal in self._ports]
        self._system.admin.remove_group_members(self._system.config.counter.group, members)

    def _name(self, ordinal: int) -> str:
        return f"unique-users-counter-{ordinal}"

    def _start(self, ordinal: int) -> None:
        settings = [f"kafka.group_instance_id={self._name(ordinal)}", f"state.directory={self.state(ordinal)}"]
        settings += [f"metrics.port={self._ports[ordinal]}"]
        self._pods[ordinal] = self._system.start_counter(settings=settings)

    def _until_ready(self, ordinal: int) -> None:
        pod = self._pods[ordinal]
        until(lambda: self._is_ready(ordinal), lambda: f"it to be ready: {pod.last_words()}", every=PROBE_SECONDS)

    def _is_ready(self, ordinal: int) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self._ports[ordinal]}/readyz", timeout=5):
                return True
        except (URLError, OSError):
            return False


@contextmanager
def lag_looked_at(run: Run, system: System) -> Iterator[None]:
    """Measure how far the counters are behind while the block runs."""
    over = threading.Event()
    thread = threading.Thread(target=_look, args=(run, system, over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _look(run: Run, system: System, over: threading.Event) -> None:
    group, topic = system.config.counter.group, system.config.topics.bucketed.name
    stands: defaultdict[int, tuple[int, float]] = defaultdict(lambda: (-1, time.monotonic()))
    while not over.wait(LOOK_SECONDS):
        ends, committed = system.high_watermark_offsets(topic), system.committed(group, topic)
        now = time.monotonic()
        for partition, offset in committed.items():
            run.measure("records of lag in one partition", ends[partition] - offset)
            before, since = stands[partition]
            if offset != before:
                stands[partition] = (offset, now)
            run.measure("seconds in which a partition was not counted", now - since)
