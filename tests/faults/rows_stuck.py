"""Row 25: a client waits by the wall clock, which is set back. Its process ends, so that it can be started again."""

import signal
from collections.abc import Callable, Mapping
from itertools import pairwise

from harness import Run, row
from moved_clock import MovedClock
from system import System
from worker import Worker

HOUR = 3_600
STUCK_SECONDS = 15  # longer than any step of a start takes on a busy machine
STACKS = 6_000  # characters


@row(25, "the wall clock of bucketer and counter set back by hours while they are idle, and forward")
def clock_set_back(run: Run) -> None:
    times = run.scale(1, 4)
    frames = run.sample(run.scale(2_000, 20_000))
    cuts = [len(frames) * number // (times + 2) for number in range(times + 3)]
    parts = iter([frames[begin:end] for begin, end in pairwise(cuts)])
    run.directory.mkdir(parents=True, exist_ok=True)
    clock = MovedClock(run.directory)
    environment = {**clock.environment, "PYTHONFAULTHANDLER": "1"}
    with run.system({"health": {"stuck_seconds": STUCK_SECONDS}}) as system:
        start: Mapping[str, Callable[[], Worker]] = {
            "bucketer": lambda: system.start_bucketer(environment=environment),
            "counter": lambda: system.start_counter(environment=environment),
        }
        running = {name: start[name]() for name in start}
        replay(run, system, next(parts))
        for _ in range(times):
            run.inject()
            back = set_back(run, system, clock, running)
            for name, worker in running.items():
                if not worker.alive:  # as its supervisor does
                    run.expect(worker.exit_code == 1, f"{name} ended with {worker.exit_code}: {worker.last_words()}")
                    run.expect(
                        "(health.stuck_seconds)" in worker.said[-1].text,
                        f"{name} did not say why: {worker.last_words()}",
                    )
                    running[name] = start[name]()
            replay(run, system, next(parts))
            clock.move(back)
        run.inject()
        clock.move(HOUR)
        replay(run, system, next(parts))
        run.verify(system, frames)


def set_back(run: Run, system: System, clock: MovedClock, running: Mapping[str, Worker]) -> int:
    """Set the clock back, again and again, until librdkafka stands still: a wait that has begun then lasts for hours.

    kafka-python waits by another clock, and goes on. Returns by how much.
    """
    moved = 0

    def all_have_ended() -> bool:
        nonlocal moved
        moved += HOUR
        clock.move(-HOUR)
        return not any(worker.alive for worker in running.values())

    if run.client == "librdkafka":
        system.until(all_have_ended, lambda: f"processes that stand still to end; {where_they_stand(running)}")
    else:
        for _ in range(20):
            all_have_ended()
            run.pause(0, 0.2)
    return moved


def where_they_stand(running: Mapping[str, Worker]) -> str:
    """The stacks of all threads of the processes that did not end."""
    left = [worker for worker in running.values() if worker.alive]
    for worker in left:
        worker.end(signal.SIGABRT)
    return "\n".join(worker.complaints[-STACKS:] for worker in left)


def replay(run: Run, system: System, frames: list[bytes]) -> None:
    code = system.start_producer(frames).wait(120)
    run.expect(code == 0, f"producer ended with {code}")
    system.until_caught_up()
