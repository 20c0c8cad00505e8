"""The check at the end of every row: what the system counted against what a plain recount counts."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import orjson
from system import Record, System
from worker import Worker

from unique_users.buckets import MINUTE, Bucket, Calendar
from unique_users.estimates import users_in
from unique_users.publish import merged_buckets
from unique_users.recounting import Recount

RSS_BYTES_MAX = 300_000_000


class Verdict(NamedTuple):
    """Users missing and users too many, summed over buckets, in the worst of the views; and all that is wrong."""

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
) -> Verdict:
    """Compare all views of the counts of each interval with the truth, and the rejected; look at how processes ended.

    `views`: live is what a counter says that goes on from the state (one for each of `states`), rebuilt what one says
    that has none, published what stands in the topic counts.
    """
    problems = [problem for worker in system.workers for problem in _wrong_with(worker)]
    records = system.read(system.config.topics.counts.name)
    if never_down:
        problems += _went_down((record.key, record.value) for record in records)
    found: dict[str, dict[Bucket, int]] = {}
    with ThreadPoolExecutor() as pool:
        counters = {
            f"live{number or ''}": pool.submit(count_once, system, state, alone=number > 0)
            for number, state in enumerate(states or [system.state])
            if "live" in views
        }
        if "rebuilt" in views:
            counters["rebuilt"] = pool.submit(count_once, system, system.directory / "no-state", alone=True)
        found |= {name: counter.result() for name, counter in counters.items()}
    if "published" in views:
        found["published"] = published_counts(records)
    expected = expected_counts(system, truth)
    lost = extra = 0
    for name, counts in found.items():
        missing, too_many = compare(expected, counts)
        lost, extra = max(lost, missing), max(extra, too_many)
        if missing or too_many:
            problems.append(f"{name}: {missing} users lost, {too_many} extra: {_examples(expected, counts)}")
    problems += _rejects(system, truth, at_least=rejects_at_least)
    return Verdict(lost, extra, problems)


def count_once(system: System, state: Path, *, alone: bool = False) -> dict[Bucket, int]:
    """What `counter.py --until-caught-up` says; `alone`: with a group and a topic counts of its own.

    Two in one group would share the partitions.
    """
    settings = [f"state.directory={state}"]
    if alone:
        counts = f"{system.config.topics.counts.name}-{state.name}"
        settings += [f"counter.group={counts}", f"topics.counts.name={counts}"]
    counter = system.start("counter", "--until-caught-up", "--format", "json", settings=settings)
    code = counter.wait(120)
    assert code == 0, f"counter.py --until-caught-up ended with {code}: {counter.complaints}"
    return counter.counts()


def expected_counts(system: System, truth: Recount) -> dict[Bucket, int]:
    """The true counts of the intervals that a system counts."""
    counter = system.config.counter
    buckets = truth.buckets(counter.intervals, Calendar(counter.timezone))
    return {Bucket(bucket.interval, bucket.start): bucket.unique_users for bucket in buckets}


def of_minutes(counts: Mapping[int, int]) -> dict[Bucket, int]:
    """Counts of minutes, which are named by their starts."""
    return {Bucket(MINUTE.name, start): count for start, count in counts.items()}


def published_counts(records: Iterable[Record]) -> dict[Bucket, int]:
    """The newest count of each bucket in the topic counts, without bounds."""
    return {bucket: users_in(count) for bucket, count in merged_buckets(r.value for r in records).items()}


def compare(expected: Mapping[Bucket, int], counts: Mapping[Bucket, int]) -> tuple[int, int]:
    """Users missing and users too many, summed over buckets; a bucket without users that should not be is one."""
    lost = sum(max(0, number - counts.get(start, 0)) for start, number in expected.items())
    extra = sum(max(0, number - expected.get(start, 0)) for start, number in counts.items())
    extra += sum(not number for start, number in counts.items() if start not in expected)
    return lost, extra


def rejected_by_reason(system: System) -> Counter[str]:
    """The records of the topic rejected by reason, each source record once."""
    reasons: dict[tuple[bytes, bytes, bytes], str] = {}
    for record in system.read(system.config.topics.rejected.name):
        headers = record.headers
        reasons[headers["topic"], headers["partition"], headers["offset"]] = headers["reason"].decode()
    return Counter(reasons.values())


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


def _went_down(published: Iterable[tuple[bytes | None, bytes | None]]) -> list[str]:
    """Every published count that is lower than one before it."""
    highest: dict[bytes | None, int] = {}
    problems = []
    for key, value in published:
        number = orjson.loads(value or b"null")["unique_users"]
        if number < highest.get(key, 0):
            problems.append(f"published count of {key!r} went down from {highest[key]} to {number}")
        highest[key] = max(number, highest.get(key, 0))
    return problems[:5] + ([f"and {len(problems) - 5} more went down"] if len(problems) > 5 else [])


def _examples(expected: Mapping[Bucket, int], counts: Mapping[Bucket, int]) -> str:
    different = sorted(s for s in expected.keys() | counts.keys() if expected.get(s) != counts.get(s))
    return ", ".join(
        f"{interval} {start}: {counts.get(Bucket(interval, start))} instead of {expected.get(Bucket(interval, start))}"
        for interval, start in different[:5]
    )
