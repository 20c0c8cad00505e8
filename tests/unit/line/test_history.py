"""Two years of frames, replayed as fast as it goes, give the counts of a plain recount, with bounded memory."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

from fake_bucketer import Feed
from fake_counter import Counter
from fakes import FakeKafka

from unique_users.event_time.stream_clock import BLOCK, MEDIANS
from unique_users.queries.recount import recount

DAY, MINUTE = 86_400, 60
DAYS = 2 * 365
BEGIN = 1_404_172_800  # 2014-07-01T00:00:00Z; the fakes' wall clock stands in July 2016
MINUTES_A_DAY, FRAMES_A_MINUTE, USERS = 3, 8, 12
TOO_LATE_DAYS = 60
STEP_FRAMES = 200
UIDS_MAX = 60


def thinned_history(random: Random) -> Iterator[bytes]:
    """Three minutes of each day, frames out of order within them; one a week is two months late."""
    for day in range(DAYS):
        for minute in sorted(random.sample(range(DAY // MINUTE), MINUTES_A_DAY)):
            start = BEGIN + day * DAY + minute * MINUTE
            for _ in range(FRAMES_A_MINUTE):
                yield frame(random, start + random.randrange(MINUTE))
        if day >= TOO_LATE_DAYS and day % 7 == 0:
            yield frame(random, BEGIN + (day - TOO_LATE_DAYS) * DAY)


def frame(random: Random, ts: int) -> bytes:
    return json.dumps({"uid": f"user {random.randrange(USERS)}", "ts": ts}).encode()


def test_two_years_of_history_are_counted_exactly_with_bounded_memory(kafka: FakeKafka, tmp_path: Path) -> None:
    feed = Feed(kafka)
    counter = Counter(kafka, tmp_path / "state", uids_in_memory_max=UIDS_MAX, publish_keep_days={})
    frames = list(thinned_history(Random(2016)))
    expected = recount(frames, feed.config, int(kafka.clock.wall() * 1000))
    remaining, buckets_held, uids_held = iter(frames), 0, 0
    while chunk := list(islice(remaining, STEP_FRAMES)):
        kafka.append("feed", *chunk)
        for _ in range(3):
            kafka.clock.advance(2)
            feed.step()
            counter.step()
        (ledger,) = counter.counting.partitions.open.values()
        buckets_held = max(buckets_held, len(ledger.buckets()))
        uids_held = max(uids_held, ledger._users.uids_in_memory)
    feed.finish()
    counter.finish()
    assert counter.published() == {start: len(users) for start, users in expected.users.items()}
    assert len(expected.users) == DAYS * MINUTES_A_DAY
    assert expected.counts.rejected == {"late": len(range(63, DAYS, 7))}
    assert uids_held <= UIDS_MAX
    # The stream clock is the median of nine medians of 101 times: as thin a stream as this moves it on a month late.
    clock_lag_days = BLOCK * (MEDIANS // 2 + 2) // (MINUTES_A_DAY * FRAMES_A_MINUTE) + 1
    kept_days = counter.config.counter.retention_seconds // DAY + clock_lag_days + 1
    unsaved = 2 * (STEP_FRAMES // FRAMES_A_MINUTE + 1)
    assert buckets_held <= kept_days * MINUTES_A_DAY + unsaved
