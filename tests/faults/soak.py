"""Row 17: a stream of 1,000 frames a second under mixed faults: python tests/faults/soak.py [--minutes 30] [--seed N].

Kills (1), clean stops (2), frozen processes (3), a dying broker (6) and a failing network (8) come at random moments
from the seed. At the end every count must be exact. Exit code 1 when it is not.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random, SystemRandom
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from accounting import merged_recounts
from corpus import wrong_frames
from harness import Run, end_in_order_when_terminated, new_broker
from proxy import Proxy
from system import BEFORE_NEW_YEAR, ESTIMATES, System
from worker import Worker

from unique_users.demo.sample import frames as sample_frames
from unique_users.local_kafka.broker import LocalKafka, free_port
from unique_users.queries.recount import recount

RATE = 1_000
WRONG_SHARE = 0.002
FAULT_SECONDS = (2.0, 15.0)  # of peace between two faults
KAFKA = {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 2_000, "request_timeout_ms": 10_000}


def stream(minutes: float, seed: int) -> Iterator[bytes]:
    """Frames as if they came live, some wrong ones among them; the same ones for a seed. Takes little memory."""
    random = Random(seed)
    wrong = [raw for raw, _ in wrong_frames() if raw.strip() and b"\n" not in raw and len(raw) < 10_000]
    count = int(minutes * 60 * RATE)
    for frame in sample_frames(count, users=200_000, seconds=int(minutes * 60), seed=seed, start=BEFORE_NEW_YEAR):
        if random.random() < WRONG_SHARE:
            yield random.choice(wrong)
        yield frame


class Soak:
    """The system under test and what is done to it."""

    def __init__(self, run: Run, system: System, kafka: LocalKafka, proxy: Proxy) -> None:
        self._run = run
        self._system = system
        self._kafka = kafka
        self._proxy = proxy
        self._running = {"bucketer": system.start_bucketer(), "counter": system.start_counter()}
        self.done = Counter[str]()
        self._faults: dict[str, Callable[[], None]] = {
            "kill": self._kill,
            "stop": self._stop,
            "freeze process": self._freeze,
            "kill broker": self._kill_broker,
            "bounce broker": self._bounce_broker,
            "freeze network": self._freeze_network,
            "slow network": self._slow_network,
            "reset connections": self._reset,
        }

    def fault(self) -> None:
        """Do something bad, and look whether everything still runs."""
        name = self._run.random.choice(list(self._faults))
        say(name)
        self._run.inject(kill="kill" in name)
        self.done[name] += 1
        self._faults[name]()
        for worker in self._running.values():
            self._run.expect(worker.alive, f"after {name!r} it was gone: {worker.last_words()}")
            if not worker.alive:
                self._start(worker.name)

    def _one(self) -> Worker:
        return self._running[self._run.random.choice(list(self._running))]

    def _start(self, name: str) -> None:
        start = self._system.start_bucketer if name == "bucketer" else self._system.start_counter
        self._running[name] = start()

    def _kill(self) -> None:
        worker = self._one()
        worker.kill()
        self._run.pause(0, 2)
        self._start(worker.name)

    def _stop(self) -> None:
        worker = self._one()
        self._system.until(lambda: not worker.alive or "reading" in worker.complaints, f"{worker.name} to start")
        self._run.expect_end(worker, worker.end())
        self._start(worker.name)

    def _freeze(self) -> None:
        worker = self._one()
        worker.freeze()
        self._run.pause(1, 12)
        worker.go_on()

    def _kill_broker(self) -> None:
        self._kafka.kill()
        self._run.pause(0, 5)
        self._kafka.start()

    def _bounce_broker(self) -> None:
        self._kafka.stop()
        self._kafka.start()

    def _freeze_network(self) -> None:
        self._proxy.freeze()
        self._run.pause(1, 20)
        self._proxy.thaw()

    def _slow_network(self) -> None:
        self._proxy.latency_seconds = 0.2
        self._run.pause(2, 15)
        self._proxy.latency_seconds = 0

    def _reset(self) -> None:
        self._proxy.reset()


def soak(run: Run, minutes: float) -> Soak:
    """Fill in `run`."""
    settings: dict[str, dict[str, Any]] = {"kafka": KAFKA, "counter": {"estimates": ESTIMATES}}
    with (
        Proxy(free_port()) as proxy,
        new_broker(run.directory / "kafka", proxy) as kafka,
        run.system(settings, broker=kafka.bootstrap_servers, through=proxy.address) as system,
    ):
        producer = system.start("producer", "-", "--rate", str(RATE), feed=stream(minutes, run.seed))
        test = Soak(run, system, kafka, proxy)
        while producer.alive:
            run.pause(*FAULT_SECONDS)
            test.fault()
        run.expect(producer.wait() == 0, f"the producer failed: {producer.last_words()}")
        system.until_caught_up()
        now = int(time.time() * 1000)
        parts = [recount(frames, system.config, now) for frames in (stream(minutes, run.seed), system.backlog)]
        truth = merged_recounts(*parts)
        # Frames that a producer sent twice stand in rejected twice too, each with an offset of its own.
        sent_twice = system.written(system.config.topics.feed.name) - truth.counts.read
        say(f"{truth.counts}; {sent_twice} frames were sent twice")
        run.verify(system, [], truth, rejects_at_least=sent_twice > 0)
        return test


def main(argv: Sequence[str]) -> int:
    """Exit code 1 when a count is wrong or anything else is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1_000_000))
    arguments = parser.parse_args(argv)
    end_in_order_when_terminated()
    say(f"seed {arguments.seed}, {arguments.minutes:g} minutes at {RATE} frames a second")
    with TemporaryDirectory(prefix="soak-") as directory:
        run = Run(Path(directory) / "run", "", arguments.seed, full=True)
        done = soak(run, arguments.minutes).done
    for problem in run.problems:
        say(problem)
    print("| # | fault | times injected | kills | frames | lost | extra | verdict |\n" + "|---" * 8 + "|")
    faults = ", ".join(f"{name} {times}" for name, times in sorted(done.items()))
    verdict = "pass" if run.passed else "FAILED"
    numbers = (run.injected, run.kills, run.frames, run.lost, run.extra)
    print(
        f"| 17 | {arguments.minutes:g} minutes mixed: {faults} | {' | '.join(f'{n:,}' for n in numbers)} | {verdict} |"
    )
    return 0 if run.passed else 1


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
