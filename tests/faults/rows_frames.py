"""Rows 11 to 13: frames that come twice, out of order, too late, or are no frames at all."""

import time
from collections import Counter
from functools import partial

from corpus import fuzzed, wrong_frames
from harness import Run, row
from system import BEFORE_NEW_YEAR, System

from unique_users.queries.recount import recount

SPAN_SECONDS = 7_200
RETENTION_SECONDS = 600


def count_all(run: Run, system: System, *parts: list[bytes]) -> None:
    """Replay the parts one after the other and count them, with the processes running from the start."""
    system.start_bucketer()
    system.start_counter()
    for part in parts:
        code = system.start_producer(part).wait(120)
        run.expect(code == 0, f"producer ended with {code}")
    system.until_caught_up()


@row(11, "the stream twice; shuffled within 5 s, 1 h; reversed")
def twice_and_shuffled(run: Run) -> None:
    size = run.scale(3_000, 20_000)
    hours = 4 * 3600
    plain = run.sample(size, seconds=hours)
    orders: dict[str, list[list[bytes]]] = {
        "twice": [plain, plain],
        "within-5-s": [shuffled(run, plain, 5, hours)],
        "within-1-h": [shuffled(run, plain, 3600, hours)],
        "reversed": [plain[::-1]],
    }

    def ordered(parts: list[list[bytes]], case: Run) -> None:
        case.inject()
        with case.system() as system:
            count_all(case, system, *parts)
            truth = case.verify(system, plain)
            undisturbed = recount(plain, system.config, _now()).users
            case.expect(undisturbed.items() <= truth.users.items(), "in this order, other users are counted")

    run.side_by_side({order: partial(ordered, parts) for order, parts in orders.items()})


def shuffled(run: Run, frames: list[bytes], seconds: int, span: int) -> list[bytes]:
    """No frame moves further than `seconds` of a stream that spans `span`."""
    reach = seconds * len(frames) / span
    places = [(number + run.between(0, reach), number) for number in range(len(frames))]
    return [frames[number] for _, number in sorted(places)]


@row(12, "frames past the retention; one of the year 2300 first")
def late_and_future(run: Run) -> None:
    run.side_by_side({"late": late, "counter-forgets-as-soon": counter_forgets})


def late(run: Run) -> None:
    frames, expected = late_stream(run, run.scale(6_000, 30_000), SPAN_SECONDS, RETENTION_SECONDS)
    rules = {"bucketer": {"allowed_lateness_seconds": RETENTION_SECONDS}, "counter": {"retention_seconds": 0}}
    with run.system(rules) as system:
        run.injected += expected.total()
        count_all(run, system, frames)
        truth = run.verify(system, frames)
        rejected = truth.counts.rejected
        # Of several partitions each has a clock of its own, which is behind that of the stream as it was made.
        as_made = rejected == expected or (system.behind and 0 < rejected["late"] <= expected["late"])
        run.expect(as_made, f"recount rejects {truth.counts.rejected}, not {expected}")


def counter_forgets(run: Run) -> None:
    """The counter's retention as short as the bucketer's, which is allowed, and a stream that is not in order."""
    sample = run.sample(run.scale(6_000, 30_000), seconds=SPAN_SECONDS)
    frames = shuffled(run, sample, 300, SPAN_SECONDS)
    rules = {
        "bucketer": {"allowed_lateness_seconds": RETENTION_SECONDS},
        "counter": {"retention_seconds": RETENTION_SECONDS},
    }
    with run.system(rules) as system:
        run.inject()
        count_all(run, system, frames)
        # What has left the memory stays right in the topic counts.
        run.verify(system, frames, views=["published"])


def late_stream(run: Run, size: int, span: int, retention: int) -> tuple[list[bytes], Counter[str]]:
    """A stream in order, except for frames that are far too late, late but not too late, and in the future."""
    frames = [frame_at(run, 10_413_792_000)]  # 2300-01-01
    expected = Counter(future=1)
    for number in range(size):
        now = BEFORE_NEW_YEAR + number * span // size
        frames.append(frame_at(run, now))
        # The clock is the median of the last 1,001 times, so about 500 frames behind what is newest.
        slack = 1_001 * span // size + 60
        if number > 1_500 and run.random.random() < 0.02:
            frames.append(frame_at(run, now - retention - slack - run.random.randrange(10_000)))
            expected["late"] += 1
        if run.random.random() < 0.02:
            frames.append(frame_at(run, now - run.random.randrange(retention // 2)))
        if run.random.random() < 0.01:
            frames.append(frame_at(run, _now() // 1000 + 3_600 + 60 + run.random.randrange(1 << 20)))
            expected["future"] += 1
    return frames, expected


def frame_at(run: Run, ts: int) -> bytes:
    return b'{"ts":%d,"uid":"%x","text":"%s"}' % (ts, run.random.randrange(5_000), b"x" * 200)


@row(13, "corrupt frames")
def corrupt(run: Run) -> None:
    good = run.sample(run.scale(2_000, 5_000))
    bad = wrong_frames()
    fuzz = fuzzed(good, run.scale(3_000, 20_000), run.random)
    frames = [*good, *(frame for frame, _ in bad), *fuzz]
    run.random.shuffle(frames)
    with run.system() as system:
        run.injected += len(bad) + len(fuzz)
        bucketer, counter = system.start_bucketer(), system.start_counter()
        system.until(lambda: "reading" in bucketer.complaints, "the bucketer to start")
        system.send(frames)
        system.until_caught_up()
        run.expect(bucketer.alive and counter.alive, "a process ended")
        run.verify(system, frames)
        for frame, reason in bad:
            found = dict(recount([frame], system.config, _now()).counts.rejected)
            wanted = {reason: 1} if reason else {}
            run.expect(found == wanted, f"{frame[:80]!r}: rejected as {found}, expected {wanted}")
        # Dead letters are kept as they came.
        kept = Counter(record.value for record in system.read(system.config.topics.rejected.name))
        strangers = sum(value not in set(frames) for value in kept)
        run.expect(not strangers, f"{strangers} rejected records are none that were sent")


def _now() -> int:
    return int(time.time() * 1000)
