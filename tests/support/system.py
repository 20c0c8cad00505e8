"""A running system: the real scripts as processes, with topics, groups, a config file and a state of their own."""

import gzip
import os
import sqlite3
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from shutil import copyfile
from types import TracebackType
from typing import Any, Self

import orjson
import patience
import yaml
from kafka import KafkaProducer
from kafka.errors import KafkaError
from repository import command
from topics_on_broker import Record, TopicsOnBroker
from uneven import unevenly
from worker import Worker

from unique_users.clients.topics import ensure_topic
from unique_users.config.load import load_config
from unique_users.config.schema import Config
from unique_users.errors import BrokerAwayError, BrokerError
from unique_users.event_time.buckets import INTERVALS
from unique_users.messages.offset_metadata import OffsetMetadata

MEMORY_SECONDS = 0.25
CLIENT = os.environ.get("CLIENT", "kafka-python")  # of those that say no other
SABOTAGED = Path(__file__).with_name("sabotaged.py")

# A stream that begins here comes to the end of a minute, a day, a week, a month and a year two minutes later.
ZONE = "Europe/Berlin"
BEFORE_NEW_YEAR = 1_704_063_480  # 2023-12-31T23:58:00+01:00, a Sunday
ESTIMATES = ["week", "month", "year"]
DAYS_BEHIND, BACKLOG = 5, 300  # of the partition of feed that is behind; so many frames

# Small enough that every fault meets many saves, commits and publications. What follows is counted of every stream.
SETTINGS: dict[str, dict[str, Any]] = {
    "kafka": {"session_timeout_ms": 2_000, "heartbeat_interval_ms": 600},
    "bucketer": {"commit_seconds": 0.3, "report_seconds": 0.5},
    "counter": {
        "report_seconds": 0.5,
        "save_seconds": 0.5,
        "publish_seconds": 0.5,
        "publish_keep_days": {},  # a recount knows every minute
        "intervals": list(INTERVALS),
        "timezone": ZONE,
    },
}


# Three partitions of feed, one of them days behind. However long that one is silent, it holds all buckets.
BEHIND: dict[str, dict[str, Any]] = {"topics": {"feed": {"partitions": 3}}, "counter": {"idle_seconds": 3_600}}


def users_in_bucketed(records: Iterable[Record]) -> dict[int, set[str]]:
    """The users of each minute in records of bucketed, combined or not."""
    users: dict[int, set[str]] = {}
    for record in records:
        value = orjson.loads(record.value or b"")
        users.setdefault(int(record.key or b""), set()).update(value.get("uids") or [value["uid"]])
    return users


def merged(tree: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both, what `over` says where they differ; sections are merged, too."""
    both = {**tree, **over}
    for name in tree.keys() & over.keys():
        if isinstance(tree[name], Mapping) and isinstance(over[name], Mapping):
            both[name] = merged(tree[name], over[name])
    return both


def _can_be_stopped(worker: Worker) -> bool:
    return not worker.alive or worker.name == "producer" or f"{worker.name}: reading" in worker.complaints


class System(TopicsOnBroker):
    """Topics and groups of its own on the broker at `servers`. A context manager that leaves nothing running.

    The scripts reach it at the address `through`, if one is given. They combine records if the environment has COMBINE.
    If one partition of feed is to be `behind`, it gets few frames of those that are sent.
    """

    def __init__(
        self,
        directory: Path,
        servers: str,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        through: str | None = None,
        *,
        behind: bool = False,
        client: str = CLIENT,
    ) -> None:
        tag = uuid.uuid4().hex[:10]
        self.directory = directory
        self.state = directory / "state"
        self.behind = behind
        self.backlog: list[bytes] = []  # the frames in feed that are days behind
        directory.mkdir(parents=True)
        large = {"settings": {"max.message.bytes": 8_388_608}}
        kinds: dict[str, Any] = {"feed": large, "bucketed": {}, "rejected": large}
        kinds["counts"] = {"settings": {"cleanup.policy": "compact"}}
        own = {
            "topics": {what: {"name": f"{what}-{tag}", **kind} for what, kind in kinds.items()},
            "state": {"directory": str(self.state)},
            "kafka": {"bootstrap_servers": servers},
            "bucketer": {"group": f"bucketer-{tag}"},
            "counter": {"group": f"counter-{tag}"},
        }
        tree = merged(merged(SETTINGS, own), settings or {})
        super().__init__(self._config(tree, "direct.yaml"))
        tree["client"] = client
        tree["bucketer"]["combine"] = "COMBINE" in os.environ
        if through:
            tree["kafka"]["bootstrap_servers"] = through
        self._path = directory / "config.yaml"
        self.config = self._config(tree, self._path.name)
        self.workers: list[Worker] = []
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch_memory, daemon=True)
        self._watcher.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.kill()
        self._closed.set()
        self._watcher.join()
        if self._admin is not None:
            self._admin.close()

    # Processes.

    def start(
        self,
        script: str,
        *arguments: str,
        settings: Sequence[str] = (),
        fault: Sequence[str] = (),
        feed: Iterable[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Worker:
        """Start a script; `fault` is one of sabotaged.py."""
        if script == "producer" and self.behind:
            fault = ["uneven", str(self.config.topics.feed.partitions)]
        begin = [sys.executable, str(SABOTAGED), *fault, script] if fault else command(script)
        over = [part for setting in settings for part in ("--set", setting)]
        line = [*begin, "--config", str(self._path), *over, *arguments]
        worker = Worker(script, line, self.directory, feed, environment)
        self.workers.append(worker)
        return worker

    def start_bucketer(self, **rest: Any) -> Worker:
        return self.start("bucketer", **rest)

    def start_counter(self, **rest: Any) -> Worker:
        return self.start("counter", "--format", "json", **rest)

    def start_producer(self, frames: Sequence[bytes], rate: float | None = None, **rest: Any) -> Worker:
        """Replay frames without line ends from a file."""
        path = self.directory / f"stream-{len(self.workers)}.gz"
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(b"\n".join(frames) + b"\n")
        return self.start("producer", str(path), *(["--rate", f"{rate:g}"] if rate else []), **rest)

    def end_all(self) -> list[Worker]:
        """Ask everything that runs to end; return it."""
        running = [worker for worker in self.workers if worker.alive]
        for worker in running:
            # While Python still imports, a signal ends a script as it does any program.
            self.until(partial(_can_be_stopped, worker), f"{worker.name} to start")
            worker.end()
        return running

    # Topics.

    def make_topics(self) -> None:
        """Create all four topics, as the scripts would."""
        assert self.admin
        topics = self.config.topics

        def made() -> bool:  # of a cluster, another broker may be asked that does not know them yet
            for topic in (topics.feed, topics.bucketed, topics.counts, topics.rejected):
                ensure_topic(self._admin, topic)
            return True

        self.until(made, "the topics to be there")

    def put_backlog(self) -> None:
        """Fill the partition that is behind, before others come."""
        begin = BEFORE_NEW_YEAR - DAYS_BEHIND * 86_400
        self.backlog = [
            b'{"uid":"days behind %d","ts":%d}' % (n % 100, begin + n * 120 // BACKLOG) for n in range(BACKLOG)
        ]
        self.make_topics()
        self.send(self.backlog, 0)

    def send(self, values: Iterable[bytes | None], partition: int | None = None) -> None:
        """Put records into feed as they are; for what no line of a file can hold."""
        partitions = self.config.topics.feed.partitions
        producer = KafkaProducer(
            bootstrap_servers=self.direct.bootstrap_servers, acks="all", linger_ms=20, max_request_size=1 << 24
        )
        try:
            sent = [
                producer.send(
                    self.config.topics.feed.name,
                    value,
                    partition=unevenly(turn, partitions) if self.behind and partition is None else partition,
                )
                for turn, value in enumerate(values, 1)
            ]
            producer.flush()
            for future in sent:
                future.get(60)
        finally:
            producer.close()

    def low_watermark(self) -> int | None:
        """The lowest watermark that the bucketers have committed of a partition of feed, None without one."""
        assert self.admin
        committed = self._admin.committed(self.config.bucketer.group, self.config.topics.feed.name)
        found = [OffsetMetadata.parsed(position.metadata).watermark() for position in committed.values()]
        known = [watermark for watermark in found if watermark is not None]
        return min(known) if known and len(known) == len(found) else None

    def recreate(self, topic: str) -> None:
        """Delete a topic and make it again, empty."""
        (known,) = [known for known in (self.config.topics.feed, self.config.topics.bucketed) if known.name == topic]
        self.admin.delete_topics([topic])
        self.until(lambda: self._admin.describe(topic) is None, f"{topic} to be gone")
        self._admin.create(known)
        if known is self.config.topics.feed:
            self.backlog = []

    # Waiting.

    def until(self, condition: Callable[[], bool], what: str | Callable[[], str]) -> None:
        """Wait for a condition; a broker that does not answer means not yet."""
        why = ""

        def holds() -> bool:
            nonlocal why
            try:
                why = "it does not hold"
                return condition()
            except (BrokerAwayError, BrokerError, KafkaError) as error:
                why = repr(error)
                return False

        def said() -> str:
            words = "\n".join(worker.last_words() for worker in self.workers[-8:])
            return f"{what() if callable(what) else what} ({why}); what was said last:\n{words}"

        patience.until(holds, said)

    def until_bucketed(self) -> None:
        """Wait until all of feed is re-keyed and committed."""
        config = self.config
        self._until_read(config.bucketer.group, config.topics.feed.name)

    def until_caught_up(self) -> None:
        """Wait until all of feed is counted."""
        config = self.config
        self.until_bucketed()
        self._until_read(config.counter.group, config.topics.bucketed.name)

    def _until_read(self, group: str, topic: str) -> None:
        lag: list[int] = []

        def read() -> bool:
            lag.append(self.lag(group, topic))
            return lag[-1] == 0

        self.until(read, lambda: f"{group} to have committed all of {topic}, its lag was {lag[-5:]}")

    # The state.

    def state_file(self, partition: int = 0) -> Path:
        return self.state / f"{self.config.topics.bucketed.name}-{partition}.sqlite"

    def saved_offset(self, partition: int = 0) -> int:
        """The position in the state of a counter that does not run; the state is left untouched."""
        file = self.state_file(partition)
        if not file.exists():
            return 0
        copy = self.directory / f"copy-{uuid.uuid4().hex[:6]}.sqlite"
        for suffix in ("", "-journal", "-wal"):
            source = file.with_name(file.name + suffix)
            if source.exists():
                copyfile(source, copy.with_name(copy.name + suffix))
        db = sqlite3.connect(copy)
        try:
            row = db.execute("SELECT next_offset FROM progress").fetchone()
        except sqlite3.OperationalError:
            row = None  # killed before its first save
        finally:
            db.close()
        return int(row[0]) if row else 0

    def _config(self, tree: Mapping[str, Any], name: str) -> Config:
        path = self.directory / name
        path.write_text(yaml.safe_dump(dict(tree)))
        return load_config(str(path))

    def _watch_memory(self) -> None:
        while not self._closed.wait(MEMORY_SECONDS):
            for worker in list(self.workers):
                if worker.alive:
                    worker.look_at_memory()
