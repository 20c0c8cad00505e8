"""Rows 1 to 4: processes that are killed, stopped, frozen and slow."""

import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from harness import Run, row
from system import System
from worker import Worker

SAVE_SECONDS = 0.5


@contextmanager
def stream(run: Run, system: System, frames: list[bytes], rate: float) -> Iterator[Worker]:
    """A producer at work; at the end it must have sent everything."""
    producer = system.start_producer(frames, rate)
    yield producer
    code = producer.wait(len(frames) / rate + 120)
    run.expect(code == 0, f"producer ended with {code}: {producer.complaints}")


def check_reread(run: Run, system: System, counter: Worker, began_at: int) -> None:
    """After a kill: what was read longer ago than two save intervals must be saved."""
    killed_at = time.monotonic()
    saved = system.saved_offset()
    position = began_at
    for at, report in counter.reports():
        position += report["new"]
        if at < killed_at - 2 * SAVE_SECONDS and position > saved:
            run.problems.append(
                f"position {position} was reported {killed_at - at:.2f} s before the kill, saved was {saved}:"
                f" more than two save intervals are read again"
            )
            return


@row(1, "kill -9 of bucketer or counter")
def killed(run: Run) -> None:
    kills, rate = run.scale(10, 20), run.scale(400, 1_000)
    frames = run.sample(run.scale(7_000, 50_000))
    kafka = {"session_timeout_ms": 1_500, "heartbeat_interval_ms": 400}
    often = {"report_seconds": 0.1, "save_seconds": SAVE_SECONDS}
    with run.system({"kafka": kafka, "counter": often}) as system:
        with stream(run, system, frames, rate):
            bucketer, counter = system.start_bucketer(), system.start_counter()
            # On a busy machine every kill could come before anything was saved, and no restart would have to go on.
            system.until(lambda: system.written(system.config.topics.counts.name) > 0, "a first count")
            began_at = 0
            for number in range(kills):
                run.pause(0.2, 2.8)
                run.inject(kill=True)
                if number % 2 == run.seed % 2:
                    bucketer.kill()
                    run.pause(0, run.scale(1, 2))
                    bucketer = system.start_bucketer()
                else:
                    counter.kill()
                    check_reread(run, system, counter, began_at)
                    began_at = system.saved_offset()
                    run.pause(0, run.scale(1, 2))
                    counter = system.start_counter()
        system.until_caught_up()
        run.verify(system, frames)


@row(2, "SIGTERM and SIGINT, rolling restart")
def stopped(run: Run) -> None:
    stops, rate = run.scale(6, 20), run.scale(500, 1_000)
    frames = run.sample(run.scale(6_000, 30_000))
    # Nobody may be taken for dead here: a clean stop leaves nothing behind, and only that is looked at.
    kafka = {"session_timeout_ms": 30_000, "heartbeat_interval_ms": 1_000}
    with run.system({"kafka": kafka}) as system:
        with stream(run, system, frames, rate):
            start = {"bucketer": system.start_bucketer, "counter": system.start_counter}
            running = {name: start[name]() for name in start}
            lives: dict[str, list[Worker]] = {name: [worker] for name, worker in running.items()}
            for number in range(stops):
                name = ("bucketer", "counter")[number % 2]
                run.pause(0.5, 2)
                wait_for_handlers(system, running[name])
                run.inject()
                how = run.random.choice((signal.SIGTERM, signal.SIGINT))
                run.expect_end(running[name], running[name].end(how))
                running[name] = start[name]()
                lives[name].append(running[name])
        system.until_caught_up()
        for worker in running.values():
            wait_for_handlers(system, worker)  # the last one may have had nothing left to read
            run.expect_end(worker, worker.end())
        truth = run.verify(system, frames)

        def read_by(worker: Worker) -> int:
            said = [found[1] for line in worker.lines if (found := re.search(r"([\d,]+) frames read", line.text))]
            return int(said[-1].replace(",", ""))

        read = sum(read_by(worker) for worker in lives["bucketer"])
        run.expect(read == truth.counts.read, f"bucketers read {read} frames of {truth.counts.read}")
        bucketed = system.written(system.config.topics.bucketed.name)
        one_each = not system.config.bucketer.combine
        run.expect(bucketed == truth.counts.accepted or not one_each, f"bucketed has {bucketed} records")
        counted = sum(report["new"] for worker in lives["counter"] for _, report in worker.reports())
        run.expect(counted == bucketed, f"counters read {counted} messages of {bucketed}")


def wait_for_handlers(system: System, worker: Worker) -> None:
    """Wait until a script can be stopped: while Python still imports, a signal ends it as it does any program."""
    system.until(lambda: f"{worker.name}: reading" in worker.complaints, f"{worker.name} to start")


@row(3, "SIGSTOP past the session timeout, then SIGCONT")
def frozen(run: Run) -> None:
    cases = {"one-state": partial(frozen_case, shared=True), "two-states": partial(frozen_case, shared=False)}
    run.side_by_side({**cases, **({"locked-out": locked_out} if run.full else {})})


def frozen_case(run: Run, *, shared: bool) -> None:
    """`shared`: the counter that takes over uses the same state directory, as on one machine."""
    session = run.scale(2_000, 6_000)
    kafka = {"session_timeout_ms": session, "heartbeat_interval_ms": session // 3}
    frames = run.sample(run.scale(5_000, 25_000))
    with run.system({"kafka": kafka, "counter": {"save_seconds": 0.3, "publish_seconds": 0.3}}) as system:
        states = [system.state] if shared else [system.state, system.directory / "state2"]
        freeze_both(run, system, frames, session / 1000, states[-1])
        system.until_caught_up()
        run.verify(system, frames, states=states)


def freeze_both(run: Run, system: System, frames: list[bytes], session: float, second_state: object) -> None:
    """Freeze a bucketer and a counter; others take over; the frozen ones come back, and later the others leave."""
    with stream(run, system, frames, run.scale(400, 1_000)):
        firsts = [system.start_bucketer(), system.start_counter()]
        for _ in range(run.scale(1, 2)):
            system.until(lambda: system.written(system.config.topics.counts.name) > 0, "a first count")
            run.pause(0.5, 2)
            run.inject()
            run.inject()
            for worker in firsts:
                worker.freeze()
            seconds = [
                system.start_bucketer(),
                system.start_counter(settings=[f"state.directory={second_state}"]),
            ]
            run.pause(1.5 * session, 2.5 * session)
            for worker in firsts:
                worker.go_on()
            run.pause(1, 3)
            for worker in seconds:
                run.expect_end(worker, worker.end())


def locked_out(run: Run) -> None:
    """A second counter on the same state gives up with one line when the first never lets go."""
    frames = run.sample(5_000)
    with run.system() as system:
        with stream(run, system, frames, 2_000):
            system.start_bucketer()
            first = system.start_counter()
            system.until(lambda: system.written(system.config.topics.counts.name) > 0, "a first count")
            run.inject()
            first.freeze()
            second = system.start_counter()
            code = second.wait(60)
            errors = [line.text for line in second.said if line.text.startswith("error:")]
            run.expect(code == 1, f"the second counter on a locked state ended with {code}")
            run.expect(len(errors) == 1 and "in use by another process" in errors[0], f"it said {second.complaints}")
            first.go_on()
        system.until_caught_up()
        run.verify(system, frames)


@row(4, "slow work past max_poll_interval_ms")
def slow(run: Run) -> None:
    run.side_by_side({"one-state": partial(slow_case, shared=True), "two-states": partial(slow_case, shared=False)})
    run.expect(run.injected > 0, "nothing was slow")


def slow_case(run: Run, *, shared: bool) -> None:
    """`shared` as in row 3."""
    kafka = {"session_timeout_ms": 1_500, "heartbeat_interval_ms": 400, "max_poll_interval_ms": run.scale(2_000, 3_000)}
    delay = str(run.between(*run.scale((2.2, 3.0), (3.2, 5.0))))
    frames = run.sample(run.scale(4_000, 20_000))
    with run.system({"kafka": kafka, "counter": {"save_seconds": 0.3, "publish_seconds": 0.3}}) as system:
        states = [system.state] if shared else [system.state, system.directory / "state2"]
        with stream(run, system, frames, run.scale(400, 600)):
            slows = [system.start_bucketer(fault=["slow", delay]), system.start_counter(fault=["slow", delay])]
            # On a busy machine the others could have read all frames before one of these is at work.
            system.until(lambda: any("sabotaged" in worker.complaints for worker in slows), "slow work")
            run.pause(0, 2)
            system.start_bucketer()
            system.start_counter(settings=[f"state.directory={states[-1]}"])
        run.injected += sum("sabotaged" in line.text for worker in slows for line in worker.said)
        # What is slow may take long to end, and that is no fault of the product.
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda worker: worker.end(seconds=60), slows))
        system.until_caught_up()
        run.verify(system, frames, states=states)
