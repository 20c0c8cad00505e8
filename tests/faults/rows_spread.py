"""Row 18: partitions of feed that are days apart. Each frame is counted, or rejected with a reason."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from accounting import dead_letters, until_all_is_accounted_for
from harness import RowFunction, Run, row
from kafka import KafkaProducer
from system import System

from unique_users.event_time.buckets import Bucket
from unique_users.state.store import Stores

MINUTE, DAY = 60, 86_400
BEGIN = 1_700_006_400  # 2023-11-15T00:00:00Z
FLUSH_FRAMES = 20_000
TWO_YEARS_DAYS = 730
LATE_FRAMES = 300


@row(18, "partitions of feed days apart; one idle that wakes; a backlog of 12 days and one of two years")
def days_apart(run: Run) -> None:
    cases: dict[str, RowFunction] = {
        "idle": idle_that_wakes,
        "12-days": partial(backlog, kill=False),
        "12-days-killed": backlog,
    }
    if run.full:  # one after the other: the large ones take the machine for themselves
        for name, case in {**cases, "two-years": two_years}.items():
            run.side_by_side({name: case})
    else:
        run.side_by_side({**cases, "two-years": two_years})


def three(run: Run, partitions: int = 3, **counter: Any) -> Mapping[str, Mapping[str, Any]]:
    """Default rules over several partitions of feed; minutes alone, so that many of them are cheap."""
    plain = {"intervals": ["minute"], "estimates": [], "timezone": "UTC"}
    feed = {"partitions": partitions}
    kafka = {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 1_000} if run.full else {}
    return {"topics": {"feed": feed}, "counter": {**plain, **counter}, "kafka": kafka}


def idle_that_wakes(run: Run) -> None:
    """feed-0: 300 frames at T, 900 at T + 5 days, counted; then feed-1, idle until then, gets 300 at T + 2 days."""
    run.inject()
    with run.system(three(run, partitions=2, idle_seconds=1), behind=False) as system:  # it fills feed by itself
        system.make_topics()
        put(system, 0, [frame(n, BEGIN) for n in range(300)])
        put(system, 0, [frame(n, BEGIN + 5 * DAY) for n in range(900)])
        system.start_bucketer()
        counter = system.start_counter()
        system.until_caught_up()
        system.until(lambda: has_closed(system, BEGIN), "the minutes of T to leave the state, as feed-1 is idle")
        put(system, 1, [frame(n, BEGIN + 2 * DAY) for n in range(LATE_FRAMES)])
        system.until_caught_up()
        until_all_is_accounted_for(system, counter)
        run.check_every_frame(system, counter)
        late = len(dead_letters(system))
        run.expect(late == LATE_FRAMES, f"{late} dead letters of what woke for closed minutes")


def has_closed(system: System, minute: int) -> bool:
    """Whether the state has let go of a minute. While all of feed is idle it does not, so feed-0 gets a frame."""
    put(system, 0, [frame(0, BEGIN + 5 * DAY)])
    (state,) = Stores(system.state).look(system.config.topics.bucketed.name)
    return Bucket("minute", minute) not in state.counts


def backlog(run: Run, *, kill: bool = True) -> None:
    """12 days at one frame a second wait in three partitions, a third of them in each; two bucketers."""
    seconds = run.scale(120, 1)
    frames = [frame(n, BEGIN + n * seconds) for n in range(12 * DAY // seconds)]
    spread_out(run, frames, kill=kill)


def two_years(run: Run) -> None:
    """Two years wait in three partitions, a third of the time in each."""
    seconds = run.scale(3_600, 120)
    frames = [frame(n, BEGIN - n * seconds) for n in reversed(range(TWO_YEARS_DAYS * DAY // seconds))]
    spread_out(run, frames, kill=False)


def spread_out(run: Run, frames: Sequence[bytes], *, kill: bool) -> None:
    run.inject(kill=kill)
    share = len(frames) // 3 + 1
    with run.system(three(run), behind=False) as system:  # it fills feed by itself
        system.make_topics()
        for partition in range(3):
            put(system, partition, frames[partition * share : (partition + 1) * share])
        bucketers = [system.start_bucketer(), system.start_bucketer()]
        counter = system.start_counter()
        if kill:
            system.until(lambda: system.written(system.config.topics.bucketed.name) > len(frames) // 3, "a third")
            bucketers[0].kill()
            system.start_bucketer()
        system.until_caught_up()
        until_all_is_accounted_for(system, counter)
        run.check_every_frame(system, counter)
        counter.look_at_memory()
        run.measure("MB of the counter", counter.rss_bytes_max / 1e6)
        run.measure("MB of a bucketer", max(worker.rss_bytes_max for worker in bucketers) / 1e6)


def frame(number: int, ts: int) -> bytes:
    return b'{"uid":"user %d","ts":%d}' % (number % 5_000, ts)


def put(system: System, partition: int, frames: Sequence[bytes]) -> None:
    """Append frames to a partition of feed."""
    producer = KafkaProducer(
        bootstrap_servers=system.direct.bootstrap_servers, acks="all", linger_ms=50, batch_size=1 << 19
    )
    try:
        for some in batches(frames):
            sent = [producer.send(system.config.topics.feed.name, value, partition=partition) for value in some]
            for future in sent:
                future.get(60)
    finally:
        producer.close()


def batches(frames: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for begin in range(0, len(frames), FLUSH_FRAMES):
        yield frames[begin : begin + FLUSH_FRAMES]
