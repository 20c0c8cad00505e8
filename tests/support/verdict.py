"""The check at the end of every row: what the system counted against what a plain recount counts."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
from accounting import rejected_by_reason, sum_problems
from system import System
from topics_on_broker import Record
from worker import Worker

from unique_users.aggregation.counts import Count, users_in
from unique_users.aggregation.sketches import Sketch
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.event_time.rollup import Rollup
from unique_users.messages.counts import PublishedCount
from unique_users.messages.generations import Generation
from unique_users.messages.merged_counts import PublishedBucket, merged_buckets
from unique_users.queries.recount import Recount

RSS_BYTES_MAX = 300_000_000


class Verdict(NamedTuple):
    """Users missing and users too many, summed over buckets, in the worst of the views; and all that is wrong.

    Of estimates, by how much they are off from the one of an undisturbed count.
    """

    lost: int
    extra: int
    problems: list[str]


def judge(
    system: System,
    truth: Recount,
    *,
    states: Sequence[Path] = (),
    never_down: bool = True,
    views: Sequence[str] = ("live", "rebuilt", "published"),
    rejects_at_least: bool = False,
    empty: bool = False,
    frames_read: int | None = None,
    sums: bool = True,
) -> Verdict:
    """Compare all views of the counts of each interval with the truth, and the rejected; look at how processes ended.

    An estimate must be the one of an undisturbed run with the same users, its bounds and its published sketch too.
    `views`: live is what a counter says that goes on from the state (one for each of `states`), rebuilt what one says
    that has none, published what stands in the topic counts. Unless it is `empty`, a truth without users is a problem:
    nothing would be compared.

    The sum of the first counter must hold: frames read = counted + rejected by reason. `frames_read` is how many these
    are where they are not all that feed was given. A row without `sums` says why.
    """
    problems = [problem for worker in system.workers for problem in _wrong_with(worker)]
    records = system.read(system.config.topics.counts.name)
    problems += wrong_sketches(record.value for record in records)
    if never_down:
        problems += went_down((record.key, record.value) for record in records)
    with ThreadPoolExecutor() as pool:
        running = {
            f"live{number or ''}": pool.submit(run_counter, system, state, alone=number > 0)
            for number, state in enumerate(states or [system.state])
            if sums or "live" in views
        }
        if "rebuilt" in views:
            running["rebuilt"] = pool.submit(run_counter, system, system.directory / "no-state", alone=True)
        counters = {name: counter.result() for name, counter in running.items()}
    found = {name: counter.counts() for name, counter in counters.items() if name.rstrip("0123456789") in views}
    if sums:
        problems += sum_problems(system, counters["live"], frames_read)
    if "published" in views:
        found["published"] = published_counts(records)
    problems += _rejects(system, truth, at_least=rejects_at_least)
    expected = expected_counts(system, truth)
    # Published it must still be.
    found |= {name: with_closed(system, expected, counts) for name, counts in found.items() if name != "published"}
    lost, extra, wrong = weigh(expected, found, empty=empty)
    return Verdict(lost, extra, [*problems, *wrong])


def weigh(
    expected: Mapping[Bucket, Count], views: Mapping[str, Mapping[Bucket, Count]], *, empty: bool = False
) -> Verdict:
    """Compare each view of the counts with the expected ones, of which there are some unless it is `empty`."""
    lost = extra = 0
    problems = [] if views and bool(expected) != empty else [f"{len(expected)} buckets, {len(views)} views to compare"]
    for name, counts in views.items():
        missing, too_many = compare(expected, counts)
        lost, extra = max(lost, missing), max(extra, too_many)
        if counts != expected:  # bounds may be wrong as well, or an estimate stand for a count
            problems.append(f"{name}: {missing} users lost, {too_many} extra: {_examples(expected, counts)}")
    return Verdict(lost, extra, problems)


def with_closed(
    system: System, expected: Mapping[Bucket, Count], counts: Mapping[Bucket, Count]
) -> dict[Bucket, Count]:
    """The counts of a state, and those expected ones that it may have dropped: they are past their retention."""
    low_watermark, rules = system.low_watermark(), system.config
    rollup = Rollup(Calendar(rules.counter.timezone))
    if low_watermark is None or not rules.counter.retention_seconds:
        return dict(counts)
    floor = low_watermark - (rules.counter.retention_seconds - rules.bucketer.allowed_lateness_seconds)
    return {**{b: count for b, count in expected.items() if rollup.last_minute(b) < floor}, **counts}


def count_once(system: System, state: Path, *, alone: bool = False) -> dict[Bucket, Count]:
    """What `counter.py --until-caught-up` counts; see run_counter."""
    return run_counter(system, state, alone=alone).counts()


def run_counter(system: System, state: Path, *, alone: bool = False) -> Worker:
    """Run `counter.py --until-caught-up`; `alone`: with a group and a topic counts of its own.

    Two in one group would share the partitions.
    """
    settings = [f"state.directory={state}"]
    if alone:
        counts = f"{system.config.topics.counts.name}-{state.name}"
        settings += [f"counter.group={counts}", f"topics.counts.name={counts}"]
    counter = system.start("counter", "--until-caught-up", "--format", "json", settings=settings)
    code = counter.wait(120)
    assert code == 0, f"counter.py --until-caught-up ended with {code}: {counter.complaints}"
    return counter


def expected_counts(system: System, truth: Recount) -> dict[Bucket, Count]:
    """The true counts of the intervals that a system counts; of those that it estimates, the true estimates."""
    counter = system.config.counter
    buckets = truth.buckets(counter.intervals, Calendar(counter.timezone), counter.estimates)
    return {Bucket(bucket.interval, bucket.start): bucket.total for bucket in buckets}


def published_counts(records: Iterable[Record]) -> dict[Bucket, Count]:
    """The newest count of each bucket in the topic counts."""
    return {bucket: found.total for bucket, found in published_buckets(records).items()}


def published_buckets(records: Iterable[Record]) -> dict[Bucket, PublishedBucket]:
    """As a reader of the topic counts sees it."""
    found = list(records)
    return merged_buckets([record.value for record in found], [record.key for record in found])


def compare(expected: Mapping[Bucket, Count], counts: Mapping[Bucket, Count]) -> tuple[int, int]:
    """Users missing and users too many, summed over buckets; a bucket without users that should not be is one."""
    right, found = ({bucket: users_in(c) for bucket, c in side.items()} for side in (expected, counts))
    lost = sum(max(0, number - found.get(bucket, 0)) for bucket, number in right.items())
    extra = sum(max(0, number - right.get(bucket, 0)) for bucket, number in found.items())
    extra += sum(not number for bucket, number in found.items() if bucket not in right)
    return lost, extra


def _rejects(system: System, truth: Recount, *, at_least: bool) -> list[str]:
    """`at_least`: a producer has sent some frames twice, and each stands in rejected under an offset of its own."""
    rejected, expected = rejected_by_reason(system), truth.counts.rejected
    fits = rejected >= expected and rejected.keys() == expected.keys() if at_least else rejected == expected
    problems = [] if fits else [f"rejected: {dict(rejected)}, expected {dict(expected)}"]
    if not at_least and truth.counts.read != truth.counts.accepted + rejected.total():
        problems.append(f"{truth.counts.read} read, not {truth.counts.accepted} accepted + {rejected.total()} rejected")
    return problems


def _wrong_with(worker: Worker) -> list[str]:
    problems = []
    if "Traceback" in worker.complaints:
        problems.append(f"{worker.name} printed a traceback: {worker.complaints[-1500:]}")
    if worker.rss_bytes_max > RSS_BYTES_MAX:
        problems.append(f"{worker.name} took {worker.rss_bytes_max / 1e6:.0f} MB")
    return problems


def went_down(published: Iterable[tuple[bytes | None, bytes | None]]) -> list[str]:
    """Every published count that is lower than one before it of its key, and nothing says that this is meant.

    A tombstone says so, another topic's generation, and the mark of a state that was lost.
    """
    highest: dict[bytes | None, dict[str, PublishedCount]] = {}
    problems = []
    decode = msgspec.json.Decoder(PublishedCount).decode
    for key, value in published:
        if value is None:
            highest.pop(key, None)
        if value is None or (key or b"").startswith((b"gaps:", b"removed:")):
            continue
        count = decode(value)
        of_topics = highest.setdefault(key, {})
        topic = Generation.parsed(count.generation).topic
        before = of_topics.get(topic, count)
        lost = count.generation > before.generation and "state_lost" in count.why
        if count.unique_users < before.unique_users and not lost:
            problems.append(f"published count of {key!r} went down from {before.unique_users} to {count.unique_users}")
        if count.unique_users >= before.unique_users or lost:
            of_topics[topic] = count
    return problems[:5] + ([f"and {len(problems) - 5} more went down"] if len(problems) > 5 else [])


def wrong_sketches(values: Iterable[bytes | None]) -> list[str]:
    """Every published sketch that says something else than the estimate beside it."""
    decode = msgspec.json.Decoder(PublishedCount).decode
    counts = (decode(value) for value in values if value and b'"gaps"' not in value)
    estimates = [count for count in counts if count.sketch is not None]
    wrong = [e for e in estimates if Sketch.from_bytes(e.sketch or b"", e.checksum or b"").estimate() != e.total]
    return [f"published sketch of {e.interval} {e.timestamp} is not that of {e.total}" for e in wrong[:5]]


def _examples(expected: Mapping[Bucket, Count], counts: Mapping[Bucket, Count]) -> str:
    different = sorted(s for s in expected.keys() | counts.keys() if expected.get(s) != counts.get(s))
    return ", ".join(
        f"{interval} {start}: {counts.get(Bucket(interval, start))} instead of {expected.get(Bucket(interval, start))}"
        for interval, start in different[:5]
    )
