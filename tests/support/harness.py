"""What every row of the fault matrix is given: a broker, a seed, a scale; and where it leaves its findings."""

import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import repository  # noqa: F401 - finds the product
from accounting import Account, recount_feed, sum_problems
from proxy import Proxy
from system import BEFORE_NEW_YEAR, BEHIND, CLIENT, ESTIMATES, System, merged
from topics_on_broker import Record
from verdict import Verdict, judge, published_counts
from worker import Worker

from unique_users.demo.sample import frames as sample_frames
from unique_users.local_kafka.broker import LocalKafka, free_port
from unique_users.queries.recount import Recount

CASES_AT_ONCE = 3

# How feed looks: its partitions as the row has them, or as in system.BEHIND.
ONE, BEHIND_ONE = "feed as the row has it", "three partitions of feed, one days behind"

# Sessions may be shorter than a broker allows by default, so that a dead member is noticed in seconds.
BROKER_PROPERTIES = {"group.min.session.timeout.ms": "500"}


def end_in_order_when_terminated() -> None:
    """Let SIGTERM end a script as an exception does, so that brokers and processes do not stay behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # the scripts would ignore it too, but rows send it to them
        signal.signal(signal.SIGINT, signal.default_int_handler)


def new_broker(directory: Path, proxy: Proxy | None = None) -> LocalKafka:
    """A broker that is not started yet; who comes to it by way of the proxy stays on it."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    port, properties = free_port(), dict(BROKER_PROPERTIES)
    if proxy is not None:
        controller = f"localhost:{free_port()}"
        listeners = f"PLAINTEXT://localhost:{port},PROXIED://%s"
        properties |= {
            "listeners": f"{listeners},CONTROLLER://{controller}" % f"127.0.0.1:{proxy.target}",
            "advertised.listeners": listeners % proxy.address,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.quorum.voters": f"1@{controller}",
        }
    return LocalKafka("4.3.1", directory, port, heap="512m", properties=properties)


@dataclass
class Run:
    """One run of one row. Every decision comes from `random`, so that a seed can be replayed."""

    directory: Path
    broker: str
    seed: int
    full: bool
    client: str = CLIENT
    frames: int = 0
    injected: int = 0
    kills: int = 0
    lost: int = 0
    extra: int = 0
    problems: list[str] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)  # the largest value of each, its unit in the name
    layouts: set[str] = field(default_factory=set)
    seconds: float = 0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self._systems = 0

    @property
    def behind(self) -> bool:
        """Whether one partition of feed is days behind the others, unless a row says otherwise."""
        return self.seed // 2 % 2 == 1

    def scale(self, short: Any, full: Any) -> Any:
        """The value for this run's scale."""
        return full if self.full else short

    def between(self, least: float, most: float) -> float:
        return self.random.uniform(least, most)

    def pause(self, least: float, most: float) -> None:
        """Let a random time pass, so that the next fault comes at a moment of its own."""
        time.sleep(self.between(least, most))

    @contextmanager
    def system(
        self,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        broker: str | None = None,
        through: str | None = None,
        behind: bool | None = None,
        broker_runs: bool = True,
    ) -> Iterator[System]:
        """A system of its own, of which nothing is left running. It counts every interval.

        Of an even seed all are exact, of an odd one some are estimates, unless the settings say otherwise. Of every
        second pair of seeds feed has three partitions and one of them is days behind, unless `behind` says whether;
        where no broker runs yet, that one is filled by the row.
        """
        self._systems += 1
        directory = self.directory / f"system{self._systems}"
        behind = self.behind if behind is None else behind
        self.layouts.add(BEHIND_ONE if behind else ONE)
        estimates = {"counter": {"estimates": ESTIMATES if self.seed % 2 else []}}
        tree = merged(merged(BEHIND if behind else {}, estimates), settings or {})
        with System(directory, broker or self.broker, tree, through, behind=behind, client=self.client) as system:
            if behind and broker_runs:
                system.put_backlog()
            yield system

    def sample(self, count: int, **rest: Any) -> list[bytes]:
        """Frames that are like real ones."""
        like = {"users": count // 3 + 1, "start": BEFORE_NEW_YEAR, **rest}
        return list(sample_frames(count, seed=self.random.randrange(1 << 30), **like))

    def inject(self, *, kill: bool = False) -> None:
        """Count a fault."""
        self.injected += 1
        self.kills += kill

    def measure(self, what: str, value: float) -> None:
        """Note a value; the largest of each counts."""
        self.measured[what] = max(value, self.measured.get(what, value))

    def expect(self, holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads like assert
        """Note a promise that was not kept, and go on."""
        if not holds:
            self.problems.append(otherwise)

    def expect_within(self, seconds: float, longest_seconds: float, otherwise: str) -> None:
        """Note that something took too long; only in the full form, as the short one runs beside other tests."""
        self.expect(not self.full or seconds < longest_seconds, otherwise)

    def expect_end(self, worker: Worker, seconds: float, code: int = 0) -> None:
        """The worker was asked to end and took so many seconds."""
        self.expect(
            worker.exit_code == code, f"{worker.name} ended with {worker.exit_code}: {worker.complaints[-800:]}"
        )
        self.expect_within(seconds, 10, f"{worker.name} took {seconds:.1f} s to end")

    def verify(self, system: System, frames: Sequence[bytes], truth: Recount | None = None, **rest: Any) -> Recount:
        """End the processes, judge what the system made of `frames`; return the truth.

        That is the recount of feed, which holds these frames and no others, unless it is given.
        """
        self.end_all(system)
        truth = truth or self.account(system, frames)
        self.add(judge(system, truth, **rest), truth.counts.read)
        return truth

    def account(self, system: System, frames: Sequence[bytes]) -> Recount:
        """Hold feed against `frames`, and counts against what the topics alone say of feed; return its recount."""
        account = Account(system)
        expected = {*frames, *system.backlog}
        unseen, strangers = set(expected), 0

        def take(record: Record) -> None:
            nonlocal strangers
            account.take(record)
            unseen.discard(record.value or b"")
            strangers += (record.value or b"") not in expected

        truth = recount_feed(system, take)
        self.expect(not unseen, f"{len(unseen)} frames are not in feed, one is {next(iter(unseen), b'')[:200]!r}")
        self.expect(not strangers, f"{strangers} records of feed are no frames that were sent")
        self.take_over(system, account)
        return truth

    def take_over(self, system: System, account: Account) -> None:
        """Hold the published counts against an account of feed."""
        lost, extra = account.weigh(published_counts(system.read(system.config.topics.counts.name)))
        wrong = account.problems[:5]
        wrong += [f"by the topics alone, {lost} users are lost, {extra} extra"] if lost or extra else []
        self.add(Verdict(lost, extra, wrong), 0)

    def check_every_frame(self, system: System, counter: Worker) -> None:
        """End the processes; hold counts and the sum that the counter printed against the topics alone."""
        self.end_all(system)
        account = Account(system)
        for record in system.records(feed := system.config.topics.feed.name):
            account.take(record)
        self.take_over(system, account)
        self.problems += sum_problems(system, counter)
        self.frames += system.written(feed)

    def end_all(self, system: System) -> None:
        """End the processes; each must end well."""
        for worker in system.end_all():
            self.expect(worker.exit_code == 0, f"ended with {worker.exit_code}: {worker.last_words()}")

    def add(self, verdict: Verdict, frames: int) -> None:
        self.frames += frames
        self.lost += verdict.lost
        self.extra += verdict.extra
        self.problems += verdict.problems

    def side_by_side(self, cases: Mapping[str, "RowFunction"]) -> None:
        """Run the cases of a row at the same time, each with a seed of its own, and take their findings over.

        They take turns: with the next seed, a case is exact that was estimated; with the one after that, a case has
        one partition of feed that had three.
        """
        seeds = {
            name: 4 * self.random.randrange(1 << 28) + (self.seed // 2 + n) % 2 * 2 + (self.seed + n) % 2
            for n, name in enumerate(cases)
        }
        children = {
            name: Run(self.directory / name, self.broker, seeds[name], self.full, self.client) for name in cases
        }
        with ThreadPoolExecutor(CASES_AT_ONCE) as pool:
            for name, child in children.items():
                pool.submit(attempt, cases[name], child)
        for name, child in children.items():
            for what in ("frames", "injected", "kills", "lost", "extra"):
                setattr(self, what, getattr(self, what) + getattr(child, what))
            for what, value in child.measured.items():
                self.measure(f"{what}, {name}", value)
            self.problems += [f"{name}: {problem}" for problem in child.problems]
            self.layouts |= {f"{name}: {layout}" for layout in child.layouts}

    @property
    def passed(self) -> bool:
        return not (self.lost or self.extra or self.problems)


RowFunction = Callable[[Run], None]


@dataclass(frozen=True)
class Row:
    """A row of the matrix. `idle`: its full form does nothing but wait, so that runs can go on side by side."""

    number: int
    fault: str
    function: RowFunction
    idle: bool = False


ROWS: dict[int, Row] = {}


def row(number: int, fault: str, *, idle: bool = False) -> Callable[[RowFunction], RowFunction]:
    """Enter a function into the matrix."""

    def enter(function: RowFunction) -> RowFunction:
        ROWS[number] = Row(number, fault, function, idle)
        return function

    return enter


def execute(number: int, run: Run) -> Run:
    """Run a row; what it raises is a problem too."""
    begin = time.monotonic()
    attempt(ROWS[number].function, run)
    run.expect(run.injected > 0, "no fault was injected")
    run.seconds = time.monotonic() - begin
    return run


def attempt(function: RowFunction, run: Run) -> None:
    """Call a function; note what it raises."""
    try:
        function(run)
    except Exception as error:  # noqa: BLE001 - a row that fails must not keep the others from running
        trace = "".join(traceback.format_exception(error)[-3:])
        run.problems.append(f"{type(error).__name__}: {error}\n{trace}")
