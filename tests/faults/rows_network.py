"""Rows 6 and 8: a broker that dies, and a network that fails."""

import time

from harness import Run, new_broker, row
from proxy import Proxy
from worker import Worker

from unique_users.local_kafka.broker import free_port

PRODUCER_RSS_BYTES_MAX = 250_000_000


def expect_sent(run: Run, producer: Worker) -> None:
    """The producer has sent everything, and its memory stayed bounded."""
    code = producer.wait(180)
    run.expect(code == 0, f"producer ended with {code}: {producer.complaints}")
    run.expect(producer.rss_bytes_max < PRODUCER_RSS_BYTES_MAX, f"producer took {producer.rss_bytes_max / 1e6:.0f} MB")


@row(6, "broker kill -9 and restart, clean bounce")
def broker_dies(run: Run) -> None:
    rounds = run.scale(["kill", "bounce", "kill"], ["kill", "bounce"] * 5)
    frames = run.sample(run.scale(9_000, 40_000))
    with new_broker(run.directory / "kafka") as kafka, run.system(broker=kafka.bootstrap_servers) as system:
        producer = system.start_producer(frames, run.scale(500, 800))
        system.start_bucketer()
        system.start_counter()
        system.until(lambda: system.written(system.config.topics.counts.name) > 0, "a first count")
        for how in rounds:
            run.pause(0.3, 2.5)
            run.inject(kill=how == "kill")
            if how == "kill":
                kafka.kill()
                run.pause(0, 2)
            else:
                kafka.stop()
            kafka.start()
        expect_sent(run, producer)
        # And once more while the producer sends as fast as it can: what waits must not fill the memory.
        more = run.sample(run.scale(25_000, 60_000))
        run.inject(kill=True)
        producer = system.start_producer(more, None)
        system.until(lambda: "broker" in producer.complaints or producer.rss_bytes_max > 60_000_000, "a burst")
        kafka.kill()
        run.pause(2, 4)
        kafka.start()
        expect_sent(run, producer)
        system.until_caught_up()
        run.verify(system, [*frames, *more])


@row(8, "network frozen, slow, connections reset")
def network_fails(run: Run) -> None:
    frames = run.sample(run.scale(8_000, 40_000))
    faults = run.scale(
        ["reset", "freeze 5", "reset", "slow 3", "reset"],
        [*["reset"] * 10, "freeze 5", "freeze 5", "freeze 30", "slow 10", "slow 5"],
    )
    run.random.shuffle(faults)
    kafka = {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 2_000, "request_timeout_ms": 8_000}
    with (
        Proxy(free_port()) as proxy,
        new_broker(run.directory / "kafka", proxy) as broker,
        run.system({"kafka": kafka}, broker=broker.bootstrap_servers, through=proxy.address) as system,
    ):
        producer = system.start_producer(frames, run.scale(400, 600))
        system.start_bucketer()
        system.start_counter()
        system.until(lambda: system.written(system.config.topics.counts.name) > 0, "a first count")
        for fault in faults:
            run.pause(0.2, 1.5)
            run.inject()
            kind, _, seconds = fault.partition(" ")
            if kind == "reset":
                run.expect(proxy.reset() > 0, "no connection goes through the proxy")
            elif kind == "freeze":
                proxy.freeze()
                time.sleep(float(seconds))
                proxy.thaw()
            else:
                proxy.latency_seconds = 0.2
                time.sleep(float(seconds))
                proxy.latency_seconds = 0
        expect_sent(run, producer)
        system.until_caught_up()
        run.verify(system, frames)
