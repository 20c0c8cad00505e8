"""Row 5: members of groups come, leave and die, and topics grow."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from accounting import recount_feed
from harness import Run, row
from live import live
from pauses import Disturbance, longest_pauses
from system import System, merged
from verdict import compare, expected_counts, published_counts
from worker import Worker

MEMBERS = 3
FEED, BUCKETED, GROWN = 2, 3, 4  # partitions
RATE = 400
PAUSE_SECONDS_MAX = {"a kill": 15.0, "a freeze": 15.0, "a clean stop": 3.0}


@row(5, "1 → 3 → 1 bucketers and counters, killed, stopped and frozen; feed grows; bucketed may not")
def groups_change(run: Run) -> None:
    members_come_and_go(run)
    bucketed_grows(run)


def members_come_and_go(run: Run) -> None:
    """Every count is exact, and `counts` never stands still for long."""
    session_seconds = run.scale(3, 10)
    with run.system(settings(run, session_seconds)) as system:
        groups = Groups(run, system)
        with live(run, system, RATE) as frames:
            for place in range(MEMBERS):
                groups.join(place)
            groups.disturb("growth of feed", lambda: system.grow(system.config.topics.feed.name, GROWN))
            for _ in range(run.scale(1, 2)):
                for act in (groups.kill, groups.stop):
                    group, place = run.random.choice(groups.all), run.random.randrange(MEMBERS)
                    act(group, place)
                    groups.disturb("a join", partial(group.start, place))
            for group in groups.all * run.scale(0, 2):
                groups.freeze(group, run.random.randrange(MEMBERS), session_seconds)
            for number, act in enumerate(run.random.sample([groups.kill, groups.stop], 2)):
                for group in groups.all:
                    act(group, number)
        system.until_caught_up()
        published = system.read(system.config.topics.counts.name)
        run.verify(system, frames, states=[groups.all[1].state(place) for place in range(MEMBERS)])
        ends = system.high_watermark_offsets(system.config.topics.feed.name)
        run.expect(len(ends) == GROWN and all(ends.values()), f"feed grew, but holds {ends}")
    for what, seconds in longest_pauses(published, groups.disturbances).items():
        run.measure(f"seconds of pause at {what}", seconds)
        longest = PAUSE_SECONDS_MAX.get(what, 60)
        run.expect_within(seconds, longest, f"after {what} counts stood still for {seconds:.1f} s")


def settings(run: Run, session_seconds: float) -> dict[str, Any]:
    topics = {"feed": FEED + run.behind, "bucketed": BUCKETED, "counts": 2}
    return {
        "topics": {name: {"partitions": number} for name, number in topics.items()},
        # A consumer and a producer look for new partitions this often; five minutes by default.
        "kafka": {
            "session_timeout_ms": session_seconds * 1_000,
            "heartbeat_interval_ms": 1_000,
            "metadata_max_age_ms": 1_000,
        },
        "bucketer": {"partition_by": "uid"},
        # A counter adds up the estimates of its partitions, and who holds which is left to chance here.
        "counter": {"estimates": []},
    }


def bucketed_grows(run: Run) -> None:
    """Who is at work ends with one line that says what to do; that done, every count is exact."""
    with run.system(settings(run, 3)) as system:
        config = system.config
        with live(run, system, RATE) as frames:
            workers = [system.start_bucketer(), system.start_counter()]
            system.until(lambda: system.written(config.topics.counts.name) > 0, "a first count")
            run.inject()
            system.grow(config.topics.bucketed.name, GROWN)
            for worker in workers:
                code = worker.wait(60)
                errors = [line.text for line in worker.said if line.text.startswith("error:")]
                run.expect(code == 1 and len(errors) == 1, f"{worker.name} ended with {code}: {worker.complaints}")
                run.expect("Create a new topic" in worker.complaints, f"{worker.name} said {worker.complaints}")
        published = published_counts(system.read(config.topics.counts.name))
        _, extra = compare(expected_counts(system, recount_feed(system)), published)
        run.expect(not extra, f"{extra} users too many were published")
        new = {"feed": {"name": config.topics.feed.name}, "bucketed": {"partitions": GROWN}}
        # It goes on with the feed of the first one.
        with run.system(merged(settings(run, 3), {"topics": new}), behind=False) as renewed:
            renewed.start_bucketer()
            renewed.start_counter()
            renewed.until_caught_up()
            run.verify(renewed, [*frames, *system.backlog])


class Group:
    """The instances of one script. Each has a place, and there a state directory of its own."""

    def __init__(self, system: System, script: str) -> None:
        self._system = system
        self._script = script
        config = system.config
        of_bucketer = config.bucketer.group, config.topics.feed.name
        of_counter = config.counter.group, config.topics.bucketed.name
        self._group, self._topic = of_bucketer if script == "bucketer" else of_counter
        self.running: dict[int, Worker] = {}

    def state(self, place: int) -> Path:
        return self._system.directory / f"state-{place}"

    def start(self, place: int) -> None:
        flags = ["--format", "json"] if self._script == "counter" else []
        self.running[place] = self._system.start(
            self._script, *flags, settings=[f"state.directory={self.state(place)}"]
        )

    def committed(self) -> Mapping[int, int]:
        return self._system.committed(self._group, self._topic)


class Groups:
    """Bucketers and counters at work, and what is done to them."""

    def __init__(self, run: Run, system: System) -> None:
        self._run = run
        self._system = system
        self.all = [Group(system, "bucketer"), Group(system, "counter")]
        self.disturbances: list[Disturbance] = []

    def join(self, place: int) -> None:
        for group in self.all:
            group.start(place)
        self.disturb("a join", lambda: None)

    def kill(self, group: Group, place: int) -> None:
        self._run.inject(kill=True)
        self.disturb("a kill", group.running.pop(place).kill)

    def stop(self, group: Group, place: int) -> None:
        self._run.inject()
        worker = group.running.pop(place)
        self._until_reading(worker)
        self.disturb("a clean stop", lambda: self._run.expect_end(worker, worker.end()))

    def freeze(self, group: Group, place: int, session_seconds: float) -> None:
        """Let a member sleep past its session, until others are at work on its partitions, and come back."""
        self._run.inject()
        worker = group.running[place]
        self._until_reading(worker)
        self.disturb("a freeze", worker.freeze)
        self._run.pause(session_seconds, 1.5 * session_seconds)
        self.disturb("a thaw", worker.go_on)

    def _until_reading(self, worker: Worker) -> None:
        self._system.until(lambda: "reading" in worker.complaints, f"{worker.name} to start")

    def disturb(self, what: str, act: Callable[[], None]) -> None:
        """Do something; wait until every partition of both groups has moved on from where it was after it."""
        self._run.pause(0.5, 2)
        begin = time.time()
        act()
        self.go_on()
        self.disturbances.append(Disturbance(what, begin, time.time()))

    def go_on(self) -> None:
        before: list[Mapping[int, int]] = []

        def moved() -> bool:
            now = [group.committed() for group in self.all]
            before.extend([] if before else now)
            return all(
                offset > then.get(partition, 0)
                for then, of_group in zip(before, now, strict=True)
                for partition, offset in of_group.items()
            )

        self._system.until(moved, "every partition to move on")
