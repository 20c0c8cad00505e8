"""The steps of the demo: a stream, the wait until it is counted, and the proof that the counts are exact."""

import logging
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from unique_users.aggregation.counts import Count, Estimate
from unique_users.clients.connect import get_admin
from unique_users.clients.protocols import Admin
from unique_users.config.schema import Config
from unique_users.demo.sample import write_sample
from unique_users.demo.scripts import Scripts
from unique_users.demo.stop import DemoError, EarlyEnd
from unique_users.errors import BrokerAwayError, UsageError
from unique_users.event_time.buckets import INTERVALS, Bucket, Calendar
from unique_users.producer.frame_files import FrameFiles
from unique_users.queries.comparison import accepted_words, differences
from unique_users.queries.recount import recount, require_accepted
from unique_users.reports.bucket_count import BucketCount
from unique_users.runtime.timer import Timer

_log = logging.getLogger(__name__)

STUCK_SECONDS = 60  # of waiting for the last counts without progress
SAY_SECONDS = 2


def stream_file(config: Config, stop: EarlyEnd) -> str:
    """The configured file; if there is none, a sample is written to its path. Raises DemoError, UsageError."""
    path = Path(config.producer.file)
    if config.producer.file == "-":
        raise UsageError("producer.file: stdin cannot be read twice: name a file")
    if not path.exists():
        _log.info(f"{path} does not exist: making a sample of 30,000 frames")
        try:
            with stop.promptly():
                write_sample(path)
        except OSError as error:
            message = f"producer.file: cannot write {str(path)!r}: {error.strerror or error}: name another file"
            raise DemoError(message) from None
    return str(path)


class Left(NamedTuple):
    """The records waiting for the bucketer and for the counter."""

    to_rekey: int
    to_count: int


def wait_until_counted(config: Config, scripts: Scripts) -> None:
    """Wait until bucketer and counter have handled everything. Raises DemoError if they make no progress."""
    left = None
    moved = time.monotonic()
    say_due = Timer(SAY_SECONDS, time.monotonic)
    admin = get_admin(config)
    try:
        while (now_left := _left(admin, config) or left) != (0, 0):
            if now_left != left:
                left, moved = now_left, time.monotonic()
            elif time.monotonic() - moved > STUCK_SECONDS:
                raise DemoError(f"nothing was counted for {STUCK_SECONDS} s: {_words(left)}")
            if say_due.due():
                _log.info(f"waiting: {_words(left)}")
            scripts.attend()
    finally:
        admin.close()


def _left(admin: Admin, config: Config) -> Left | None:
    """What is not committed yet; None if the broker does not answer."""
    topics = config.topics
    try:
        # In this order: once the bucketer has nothing left, `bucketed` has its final length.
        to_rekey = admin.lag(config.bucketer.group, topics.feed.name)
        return Left(to_rekey, admin.lag(config.counter.group, topics.bucketed.name))
    except BrokerAwayError:
        return None


def _words(left: Left | None) -> str:
    if left is None:
        return "the broker does not answer"
    return f"{left.to_rekey:,} frames to re-key, {left.to_count:,} messages to count"


def recounted(file: str, config: Config, stop: EarlyEnd) -> list[BucketCount]:
    """The true count of each bucket that is counted exactly, by plain sets, oldest first.

    Raises InputError, also if there are no frames, and DemoError.
    """
    with stop.promptly(), FrameFiles([file]) as files:
        result = recount(chain.from_iterable(files), config, int(time.time() * 1000))
    _log.info(f"recount: {accepted_words(result.counts)}")
    require_accepted(result, files.path, files.skipped_lines)
    return result.buckets(exact_intervals(config), Calendar(config.counter.timezone))


def exact_intervals(config: Config) -> list[str]:
    """The intervals that can be compared with a recount. Raises UsageError if there are none."""
    counter = config.counter
    exact: list[str] = [name for name in counter.intervals if name not in counter.estimates]
    if not exact:
        raise UsageError("counter.estimates: the demo compares exact counts: leave at least one interval exact")
    return exact


def compare(counted: Mapping[Bucket, Count], true: Sequence[BucketCount], calendar: Calendar) -> bool:
    """Print both counts of every bucket that is not estimated. Returns whether there are any and all match."""
    exact = {bucket: count for bucket, count in counted.items() if not isinstance(count, Estimate)}
    recounts = {Bucket(bucket.interval, bucket.start): bucket.unique_users for bucket in true}
    different = {difference.bucket for difference in differences(true, exact)}
    texts = {bucket: calendar.text(bucket) for bucket in exact.keys() | recounts.keys()}
    width = max(map(len, texts.values()), default=0)
    for interval in sorted({bucket.interval for bucket in texts}, key=INTERVALS.index):
        print(f"{interval:<{width}}  {'counted':>9}  {'recounted':>9}")
        for bucket in sorted(bucket for bucket in texts if bucket.interval == interval):
            here, there = exact.get(bucket, 0), recounts.get(bucket, 0)
            print(f"{texts[bucket]:<{width}}  {here:>9,}  {there:>9,}{'  differs' if bucket in different else ''}")
    return bool(true) and not different
